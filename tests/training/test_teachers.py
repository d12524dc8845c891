"""Teachers: answers to what the network sees, kept between runs, and a recipe that learns from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import ModelError, TrainingError, UsageError
from fashion_mnist.network import load_weights
from training import runs
from training.augment import draw_rectangles, erase
from training.recipes import RELEASE, TEACHER
from training.teachers import Teachers, _load

RECIPE = replace(RELEASE, epochs=4, batch_size=100, teachers=["a", "b"], views=2)
OPTIONS: dict[str, Any] = {"device": "cpu", "train_images": 2000}


@pytest.fixture(scope="module")
def small(dataset: Dataset) -> Dataset:
    return Dataset(dataset.train, Split(dataset.test.images[:500], dataset.test.labels[:500]))


@pytest.fixture(scope="module")
def teachers(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the teacher's recipe, too short to know much."""
    folders = [tmp_path_factory.mktemp("teachers") / str(seed) for seed in range(2)]
    for seed, folder in enumerate(folders):
        runs.train(replace(TEACHER, epochs=2, batch_size=100), small, folder, seed=seed, **OPTIONS)
    return folders


def test_a_view_has_the_mean_log_probabilities_of_images_and_mirrored_ones(
    small: Dataset, teachers: list[Path]
) -> None:
    images = runs.split(small.train, 300)[0].images
    changed, answers = Teachers(teachers, RECIPE, images).view(1)
    moved = (changed != images).any(axis=(1, 2, 3)).mean()
    assert 0.35 < moved < 0.65
    expected = torch.zeros(300, 10)
    with torch.inference_mode():
        for folder in teachers:
            classifier = _load(folder / "weights.pt")
            batch = torch.from_numpy(changed)
            for view in (batch, batch.flip(-1)):
                expected += classifier.network(classifier.normalise(view)).log_softmax(1) / 4
    # The residual network computes in bfloat16.
    torch.testing.assert_close(answers.float(), expected, rtol=2e-2, atol=5e-2)


def test_views_differ_and_are_kept_for_the_next_run(small: Dataset, teachers: list[Path]) -> None:
    images = runs.split(small.train, 200)[0].images
    kept = teachers[0] / "answers"
    before = set(kept.glob("*")) if kept.exists() else set()
    first = Teachers(teachers[:1], RECIPE, images)
    assert not np.array_equal(first.view(0)[0], first.view(1)[0])
    written = set(kept.glob("*.npy")) - before
    assert len(written) == 2
    # What lies there is taken, not computed anew.
    for path in written:
        np.save(path, np.full((200, 10), 7, np.float16))
    assert torch.equal(Teachers(teachers[:1], RECIPE, images).view(0)[1], torch.full((200, 10), 7).half())
    for path in written:
        path.unlink()


def test_a_network_learns_from_its_teachers_and_resumes(small: Dataset, teachers: list[Path], tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop_in_the_third(progress: Any) -> None:
        if progress.epoch == 2:
            raise Interrupted

    summary = runs.train(RECIPE, small, tmp_path / "whole", teachers=teachers, **OPTIONS)
    assert summary["test_accuracy"] > 0.4
    assert [teacher["seed"] for teacher in summary["teachers"]] == [0, 1]
    with pytest.raises(Interrupted):
        runs.train(RECIPE, small, tmp_path / "cut", teachers=teachers, tell=stop_in_the_third, **OPTIONS)
    runs.train(RECIPE, small, tmp_path / "cut", teachers=teachers, resume=True, **OPTIONS)
    whole, cut = (load_weights(tmp_path / name / "weights.pt").state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_teachers_run_resumes_too(small: Dataset, teachers: list[Path], tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop_in_the_second(progress: Any) -> None:
        if progress.epoch == 1:
            raise Interrupted

    recipe = replace(TEACHER, epochs=2, batch_size=100)
    with pytest.raises(Interrupted):
        runs.train(recipe, small, tmp_path / "again", seed=0, tell=stop_in_the_second, **OPTIONS)
    runs.train(recipe, small, tmp_path / "again", seed=0, resume=True, **OPTIONS)
    assert (tmp_path / "again" / "weights.pt").read_bytes() == (teachers[0] / "weights.pt").read_bytes()


def test_erased_is_one_rectangle_of_some_images() -> None:
    images = torch.full((400, 1, 28, 28), 255, dtype=torch.uint8)
    rectangles = draw_rectangles(400, chance=0.5, generator=torch.Generator().manual_seed(0))
    rectangles[:, 4] %= 255
    changed = (erase(images, rectangles) != images)[:, 0]
    assert 150 < changed.any(2).any(1).sum() < 250
    for one in changed:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows[:, None] & columns)
        assert max(rows.sum(), columns.sum()) <= 10


def test_a_teacher_is_not_taken_for_the_released_network(teachers: list[Path]) -> None:
    with pytest.raises(ModelError, match="no weights of this network"):
        load_weights(teachers[0] / "weights.pt")


def test_teachers_that_are_missing_say_so(small: Dataset, teachers: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs 2 teachers, and 1"):
        runs.train(RECIPE, small, tmp_path / "run", teachers=teachers[:1], **OPTIONS)
    with pytest.raises(TrainingError, match="--recipe teacher"):
        runs.train(RECIPE, small, tmp_path / "run", teachers=[*teachers[:1], tmp_path], **OPTIONS)
    with pytest.raises(TrainingError, match="another teachers"):
        runs.train(RECIPE, small, tmp_path / "run", teachers=teachers, **OPTIONS)
        runs.train(RECIPE, small, tmp_path / "run", teachers=teachers[::-1], resume=True, **OPTIONS)
