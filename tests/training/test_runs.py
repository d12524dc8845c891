"""Training runs: the same weights however often they are interrupted, and words for what goes wrong."""

import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import DeviceUnavailable, TrainingError, UsageError
from fashion_mnist.network import load_weights
from tests.support.command import COMMAND, wait_until
from training import runs
from training.augment import draw_moves, move
from training.loop import Trainer
from training.recipes import COURSE, QUICK, recipe_named

SMALL = 1000


@pytest.fixture(scope="module")
def small(dataset: Dataset) -> Dataset:
    """The real data set with fewer test images, so that the end of a run takes no time."""
    return Dataset(dataset.train, Split(dataset.test.images[:500], dataset.test.labels[:500]))


def same_weights(one: Path, other: Path) -> bool:
    states = [load_weights(folder / "weights.pt").state_dict() for folder in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("name", ["course", "quick", "supervised"])
def test_a_run_learns_and_leaves_everything_behind(small: Dataset, tmp_path: Path, name: str) -> None:
    recipe = replace(recipe_named(name, epochs=2), batch_size=100)
    summary = runs.train(recipe, small, tmp_path / "run", device="cpu", train_images=4 * SMALL)
    assert summary["test_accuracy"] > 0.4
    assert summary["recipe"]["name"] == name
    assert {"weights.pt", "checkpoint.pt", "curves.png", "metrics.jsonl", "settings.json"} < {
        path.name for path in (tmp_path / "run").iterdir()
    }
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 < line["loss"] < 5 and 0 < line["held_out_accuracy"] < 1 for line in lines)
    assert json.loads((tmp_path / "run" / "training_summary.json").read_text()) == summary
    assert 0.05 < summary["temperature"] < 20
    assert 1 < summary["unknown"]["threshold"] < 10


def test_seeds_differ_and_a_seed_repeats_itself(small: Dataset, tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=1, shift=1)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        runs.train(recipe, small, tmp_path / folder, seed=seed, device="cpu", train_images=SMALL)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("recipe", [COURSE, QUICK], ids=lambda recipe: recipe.name)
def test_a_resumed_run_gives_the_same_weights(small: Dataset, tmp_path: Path, recipe: Any) -> None:
    recipe = replace(recipe, epochs=4)
    options: dict[str, Any] = {"device": "cpu", "train_images": SMALL}
    runs.train(recipe, small, tmp_path / "whole", **options)

    def stop_in_the_third(progress: Any) -> None:
        if progress.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        runs.train(recipe, small, tmp_path / "cut", tell=stop_in_the_third, **options)
    assert not (tmp_path / "cut" / "weights.pt").exists()
    summary = runs.train(recipe, small, tmp_path / "cut", resume=True, **options)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert summary["epochs"] == 4


def test_kill_9_and_resume_give_the_same_weights(tmp_path: Path) -> None:
    def command(run: str, *more: str) -> list[str]:
        return [COMMAND, "train", "--recipe", "quick", "--epochs", "6", "--train-images", "3000", "--device", "cpu"] + [
            *("--run", str(tmp_path / run)),
            *more,
        ]

    subprocess.run(command("whole"), check=True, capture_output=True, timeout=120)
    with subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL) as process:
        checkpoint = tmp_path / "killed" / "checkpoint.pt"
        wait_until(lambda: checkpoint.exists() or process.poll() is not None, "the first checkpoint")
        process.kill()
    assert not (tmp_path / "killed" / "weights.pt").exists()
    subprocess.run(command("killed", "--resume"), check=True, capture_output=True, timeout=120)
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    command = [COMMAND, "train", "--epochs", "100", "--train-images", "2000", "--run", str(tmp_path / "run")]
    # A shell starts what it starts in the background deaf to SIGINT, and so whatever that starts in its turn.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        wait_until(lambda: (tmp_path / "run" / "checkpoint.pt").exists() or process.poll() is not None, "a checkpoint")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said


def test_a_loss_that_is_no_number_stops_with_an_explanation(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"epoch 1.*learning rate.*learning_rate"):
        runs.train(
            replace(COURSE, learning_rate=1e30, epochs=2), small, tmp_path / "run", device="cpu", train_images=SMALL
        )
    assert not (tmp_path / "run" / "weights.pt").exists()


def test_a_divergence_in_the_very_last_step_is_noticed(small: Dataset, tmp_path: Path) -> None:
    recipe = replace(COURSE, learning_rate=1e30, epochs=1, batch_size=SMALL)
    with pytest.raises(TrainingError, match="diverged"):
        runs.train(recipe, small, tmp_path / "run", device="cpu", train_images=SMALL)
    assert not (tmp_path / "run" / "weights.pt").exists()


@pytest.mark.parametrize("file", ["checkpoint.pt", "settings.json"])
def test_a_damaged_run_says_so(small: Dataset, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "run"
    runs.train(replace(QUICK, epochs=1), small, folder, device="cpu", train_images=SMALL)
    (folder / file).write_bytes(b"{")
    with pytest.raises(TrainingError, match=file):
        runs.train(replace(QUICK, epochs=1), small, folder, device="cpu", train_images=SMALL, resume=True)


def test_a_run_is_not_overwritten_and_not_mixed_with_another(small: Dataset, tmp_path: Path) -> None:
    recipe, folder = replace(QUICK, epochs=1), tmp_path / "run"
    runs.train(recipe, small, folder, device="cpu", train_images=SMALL)
    before = (folder / "weights.pt").read_bytes()
    with pytest.raises(TrainingError, match="--resume"):
        runs.train(recipe, small, folder, device="cpu", train_images=SMALL)
    with pytest.raises(TrainingError, match="another seed"):
        runs.train(recipe, small, folder, seed=1, device="cpu", train_images=SMALL, resume=True)
    with pytest.raises(TrainingError, match="another recipe"):
        runs.train(replace(recipe, learning_rate=1), small, folder, device="cpu", train_images=SMALL, resume=True)
    assert (folder / "weights.pt").read_bytes() == before


def test_a_run_goes_on_with_the_threads_it_was_begun_with(small: Dataset, tmp_path: Path) -> None:
    """Sums depend on the number of threads, in their last digits."""
    options: dict[str, Any] = {"device": "cpu", "train_images": SMALL}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        runs.train(replace(QUICK, epochs=1), small, tmp_path / "run", **options)
        torch.set_num_threads(2)
        runs.train(replace(QUICK, epochs=1), small, tmp_path / "run", resume=True, **options)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_there_must_be_a_run_to_resume(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no run"):
        runs.train(replace(QUICK, epochs=1), small, tmp_path / "typo", device="cpu", resume=True)
    assert not (tmp_path / "typo").exists()


def test_the_held_out_images_are_the_same_for_all_and_never_trained_on(dataset: Dataset) -> None:
    kept, held_out = runs.split(dataset.train)
    again = runs.split(dataset.train, train_images=10)
    assert (len(kept.images), len(held_out.images)) == (55_000, 5_000)
    assert np.array_equal(again[1].images, held_out.images)
    assert np.array_equal(again[0].images, kept.images[:10])
    assert np.array_equal(np.sort(np.concatenate([kept.labels, held_out.labels])), np.sort(dataset.train.labels))


def test_augmentation_moves_and_mirrors_and_changes_no_pixel() -> None:
    images = torch.randint(1, 256, (64, 2, 28, 28), dtype=torch.uint8)
    moves = draw_moves(64, flip=0.5, shift=2, generator=torch.Generator().manual_seed(0))
    moved = move(images, moves)
    assert moved.shape == images.shape
    for before, after, (mirrored, down, right) in zip(images, moved, moves.tolist(), strict=True):
        expected = (before.flip(-1) if mirrored else before).roll((down, right), (1, 2))
        inside = np.s_[:, 2:-2, 2:-2]
        assert torch.equal(after[inside], expected[inside])
        assert after[:, :1].any() != (down > 0)
        assert after[:, -1:].any() != (down < 0)
    assert len({tuple(row) for row in moves.tolist()}) > 20


def test_the_average_of_the_weights_is_what_is_kept(small: Dataset) -> None:
    trainer = Trainer(replace(QUICK, epochs=2), runs.split(small.train, SMALL)[0], seed=0, device=torch.device("cpu"))
    trainer.run_epoch()
    kept = trainer.result().network.conv1.weight
    assert torch.equal(kept, trainer.averaged[0])
    assert not torch.equal(kept, trainer.network.conv1.weight)


def test_an_unknown_device_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        runs.choose_device("gpu0")


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="course, quick, supervised, teacher, release"):
        recipe_named("slow")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_the_reason() -> None:
    with pytest.raises(DeviceUnavailable, match="--device cpu"):
        runs.choose_device("cuda")
