"""Runs: a folder for each, that says how it was trained, that a kill leaves whole, and that `--resume` goes on from.

settings.json           recipe, seed, numbers of images, threads and commit
metrics.jsonl     a line an epoch
checkpoint.pt     the last finished epoch, all that the next one depends on
curves.png        loss, accuracy and learning rate
weights.pt        what came out
training_summary.json   what came out, in figures; the model card takes it over
"""

import dataclasses
import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import DeviceUnavailable, TrainingError, UsageError
from fashion_mnist.evaluation import evaluation
from fashion_mnist.network import NetworkClass, save_weights
from fashion_mnist.ood import unknown_scores
from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit
from training import fused, run_folder
from training.calibration import fit_temperature
from training.loop import Progress, Trainer, predict
from training.recipes import Recipe
from training.teachers import Teachers

HELD_OUT: Final = 5000
"""Training images that are kept for validation: what is chosen is chosen on them, never on the test set."""

HELD_OUT_SHARE: Final = 0.1
"""So many of them at most, where there are few."""

UNKNOWN_SHARE: Final = 0.05
"""Share of the held-out images that count as unknown: the threshold of `fashion_mnist.ood` is set by it."""

_SMALLEST: Final = float(np.finfo(np.float32).tiny)

_SPLIT_SEED: Final = 20170825
"""The split is the same for all seeds and recipes, so that runs can be compared. The day the data set was published."""

Tell = Callable[[Progress], None]
EpochDone = Callable[[dict[str, Any]], None]


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    kernels: str = "auto",
    teachers: Sequence[Path] = (),
    train_images: int | None = None,
    network_class: NetworkClass | None = None,
    resume: bool = False,
    tell: Tell = lambda progress: None,
    epoch_done: EpochDone = lambda metrics: None,
) -> dict[str, Any]:
    """Train by a recipe into a run folder and return its summary. The test set is used once, at the end.

    With `resume` an interrupted run goes on from its last finished epoch, and gives the same weights, bit for bit, as
    one that was not interrupted. `kernels` is "fused" (`training.fused`), "torch" or "auto", which takes the fused ones
    where they can be had. `teachers` are the run folders of the networks to distil, as many as the recipe asks for.
    `train_images` takes only so many, to try things; `network_class` is trained in place of the recipe's network.

    Raises TrainingError where the folder holds another run, or the loss is no longer a number; DeviceUnavailable.
    """
    if len(teachers) != len(recipe.teachers):
        raise UsageError(
            f"the recipe {recipe.name} needs {len(recipe.teachers)} teachers, and {len(teachers)} were named"
        )
    chosen = choose_device(device)
    train_split, held_out = split(dataset.train, train_images)
    asked = Teachers(teachers, recipe, train_split.images) if teachers else None
    settings = {
        "data": dataset.task.name,
        "network": network_class.__name__ if network_class else None,
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "train_images": len(train_split.images),
        "held_out_images": len(held_out.images),
        "device": chosen.type,
        "threads": torch.get_num_threads(),
        "kernels": kernels,
        "teachers": asked.described() if asked else [],
        "commit": commit(),
    }
    trainer = Trainer(
        recipe, train_split, seed=seed, device=chosen, teachers=asked, task=dataset.task, network_class=network_class
    )
    settings["kernels"] = trainer.kernels = _choose_kernels(kernels, trainer)
    history = _open(folder, settings, trainer, resume=resume)
    while trainer.epoch < recipe.epochs:
        metrics: dict[str, Any] = {"epoch": trainer.epoch + 1, **trainer.run_epoch(tell)}
        probabilities = predict(trainer.result(), held_out.images)
        if not np.isfinite(probabilities).all():
            raise TrainingError(
                f"the answers after epoch {trainer.epoch} are no numbers: the weights have diverged, at a learning "
                f"rate of {metrics['learning_rate']:.2g}. Lower the recipe's learning_rate, or lengthen its warm_up"
            )
        metrics["held_out_accuracy"] = _accuracy(probabilities, held_out.labels)
        history.append(metrics)
        # The checkpoint comes last: a kill between the two repeats the epoch, and its line is written anew.
        atomic.write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        with atomic.replacing(folder / "checkpoint.pt") as temporary:
            torch.save(trainer.state(), temporary)
        epoch_done(metrics)
    classifier = trainer.result()
    logits = np.log(np.maximum(predict(classifier, held_out.images).astype(np.float64), _SMALLEST))
    classifier.temperature.fill_(fit_temperature(logits, held_out.labels))
    calibrated = torch.softmax(torch.from_numpy(logits) / classifier.temperature, dim=1).float().numpy()
    threshold = float(np.quantile(unknown_scores(calibrated), 1 - UNKNOWN_SHARE))
    figures = evaluation(predict(classifier, dataset.test.images), dataset.test.labels, dataset.task.classes)
    # Imported here: Matplotlib takes a while, and the first epoch need not wait for it.
    from training import plots

    plots.save(plots.curves(history), folder / "curves.png")
    save_weights(classifier, folder / "weights.pt")
    summary = {
        **settings,
        "epochs": len(history),
        "seconds": round(sum(line["seconds"] for line in history), 1),
        "held_out_accuracy": history[-1]["held_out_accuracy"],
        "test_accuracy": figures["accuracy"],
        "test_standard_error": figures["standard_error"],
        "test_calibration_error": figures["calibration"]["expected_error"],
        "temperature": classifier.temperature.item(),
        "unknown": {"threshold": round(threshold, 4), "held_out_share": UNKNOWN_SHARE},
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}"
        if chosen.type == "cpu"
        else torch.cuda.get_device_name(),
    }
    atomic.write_text(folder / "training_summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def split(train: Split, train_images: int | None = None) -> tuple[Split, Split]:
    """The training images without the held-out ones, and the held-out ones: the same ones every time."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(train.images))
    count = min(HELD_OUT, round(HELD_OUT_SHARE * len(order)))
    held_out, kept = order[:count], order[count:][:train_images]
    return Split(train.images[kept], train.labels[kept]), Split(train.images[held_out], train.labels[held_out])


def choose_device(device: str) -> torch.device:
    """The device to train on. Raises DeviceUnavailable where "cuda" cannot be had."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device is {device!r}: choose one of auto, cpu, cuda")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        reason = "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no NVIDIA GPU"
        raise DeviceUnavailable(f"{reason}: train with --device cpu, or set up with `WHEELS=cuda make setup`")
    return torch.device("cuda")


def _choose_kernels(kernels: str, trainer: Trainer) -> str:
    """The kernels to train with. Raises UsageError where the fused ones are asked for and cannot be had."""
    if kernels not in ("auto", "fused", "torch"):
        raise UsageError(f"kernels is {kernels!r}: choose one of auto, fused, torch")
    reason = fused.unavailable(trainer.network, trainer.device)
    if reason is None and trainer.recipe.erase:
        reason = "they erase nothing"
    if kernels == "fused" and reason:
        raise UsageError(f"the fused kernels cannot train this: {reason}; train with --kernels torch")
    return "torch" if reason or kernels == "torch" else "fused"


def _open(folder: Path, settings: dict[str, Any], trainer: Trainer, *, resume: bool) -> list[dict[str, Any]]:
    """Make the run's folder, or take up the run in it; the metrics of the epochs that are done."""
    run_folder.check(folder, resume=resume)
    begun = folder / run_folder.SETTINGS
    if not begun.exists():
        atomic.write_text(begun, json.dumps(settings, indent=2) + "\n")
        return []
    try:
        before = json.loads(begun.read_text())
        before = {name: before[name] for name in settings}
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{begun} is damaged: begin anew with another --run") from None
    # Sums of floats depend on how many threads share them and on the kernels: the run goes on with those it began with.
    settings["threads"] = before["threads"]
    torch.set_num_threads(before["threads"])
    settings["kernels"] = trainer.kernels = _choose_kernels(before["kernels"], trainer)
    if changed := [name for name in settings if name != "commit" and before[name] != settings[name]]:
        raise TrainingError(
            f"{folder} was begun with another {', '.join(changed)}: resume with the same, or name another --run"
        )
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        return []
    try:
        trainer.restore(torch.load(checkpoint, map_location=trainer.device, weights_only=True))
    except Exception as error:
        # torch.load raises whatever its readers make it raise.
        reason = str(error).partition("\n")[0][:200]
        raise TrainingError(f"{checkpoint} cannot be read ({reason}): begin anew with another --run") from None
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[: trainer.epoch]]


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return round(float((probabilities.argmax(axis=1) == labels).mean()), 6)
