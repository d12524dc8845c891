"""Training on the GPU: many seeds of one recipe at once, and an epoch of each recipe."""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch

from benchmarks.gpu.steps import Found, Run
from fashion_mnist.data import dataset
from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.settings import Settings
from training import runs
from training.loop import Trainer, predict
from training.many_seeds import ManySeeds
from training.recipes import QUICK, RECIPES, SUPERVISED
from training.teachers import Teachers

SEEDS: Final = 256
EPOCHS: Final = 2
NOISE: Final = 0.02
"""By so much two trainings of one seed may differ in accuracy, on 5,000 images."""
WEIGHT_NOISE: Final = 1e-2
"""By so much a weight may, after a few steps; Muon's products are of few bits."""


def training(run: Run) -> Found:
    """`fashion-mnist train` as it is; and two seeds at once, each of whose networks comes out as it does alone."""
    data = dataset.load(Settings.from_environment().data)
    few = Dataset(data.train, Split(*(each[: run.size(None, 1000)] for each in data.test)))
    with tempfile.TemporaryDirectory() as folder:
        summary = runs.train(
            dataclasses.replace(QUICK, epochs=2), few, Path(folder) / "run", device=run.device, train_images=4096
        )
    assert summary["test_accuracy"] > 0.4, summary["test_accuracy"]
    torch.backends.cudnn.allow_tf32 = False
    recipe = dataclasses.replace(QUICK, epochs=1, shift=1, batch_size=100)
    train = Split(*(each[:600] for each in data.train))
    many = ManySeeds(recipe, train, seeds=(3, 5), device=torch.device(run.device))
    many.run_epoch()
    difference = 0.0
    for seed, result in zip((3, 5), many.results(), strict=True):
        alone = Trainer(recipe, train, seed=seed, device=torch.device("cpu"))
        alone.run_epoch()
        for name, tensor in alone.result().state_dict().items():
            difference = max(difference, float((result.state_dict()[name] - tensor).abs().max()))
    assert difference <= WEIGHT_NOISE, f"weights differ by {difference} from those trained alone on the CPU"
    return {
        "test accuracy after two epochs of 4,096 images": f"{summary['test_accuracy']:.2%} on {summary['machine']}",
        "two seeds at once, largest difference of a weight": f"{difference:.1e}",
    }


def many_seeds(run: Run) -> Found:
    """Many seeds of a short `supervised` at once: seconds, accuracy's mean and spread; one of them beside the CPU's.

    Without its affine images, which are made on the CPU.
    """
    recipe = dataclasses.replace(SUPERVISED, affine=0.0, epochs=run.size(EPOCHS, 1))
    train, held_out = _images(run)
    device = torch.device(run.device)
    started = time.perf_counter()
    many = ManySeeds(recipe, train, seeds=range(run.size(SEEDS, 2)), device=device)
    epochs = []
    for _ in range(recipe.epochs):
        begun = time.perf_counter()
        many.run_epoch()
        if not run.dry:
            torch.cuda.synchronize()
        epochs.append(round(time.perf_counter() - begun, 2))
    accuracies = [_accuracy(classifier.to(device), held_out) for classifier in many.results()]
    seconds = time.perf_counter() - started
    alone = Trainer(recipe, train, seed=0, device=torch.device("cpu"))
    for _ in range(recipe.epochs):
        alone.run_epoch()
    on_cpu = _accuracy(alone.result(), held_out)
    assert abs(accuracies[0] - on_cpu) <= NOISE, f"seed 0: {accuracies[0]:.2%}, on the CPU {on_cpu:.2%}"
    found: Found = {
        "seeds": len(accuracies),
        "epochs, seconds": epochs,
        "seconds, all": round(seconds, 1),
        "held out": f"{statistics.mean(accuracies):.2%} ± {statistics.stdev(accuracies):.2%}",
        "seed 0": f"{accuracies[0]:.2%}; on the CPU {on_cpu:.2%}",
    }
    return found if run.dry else found | {"memory, GB": round(torch.cuda.max_memory_allocated() / 1e9, 1)}


def epochs(run: Run) -> Found:
    """Seconds of each recipe's first two epochs; the first one includes what is prepared once."""
    train, _ = _images(run)
    rows: list[dict[str, Any]] = []
    for recipe in RECIPES.values():
        teachers = cast(Teachers, _Teachers(train.images)) if recipe.teachers else None
        trainer = Trainer(recipe, train, seed=0, device=torch.device(run.device), teachers=teachers)
        seconds = [round(trainer.run_epoch()["seconds"], 2) for _ in range(run.size(2, 1))]
        rows.append(
            {"recipe": recipe.name, "first epoch, s": seconds[0], "next, s": seconds[-1], "epochs": recipe.epochs}
        )
    return {"epochs": rows}


class _Teachers:
    """In place of `training.teachers.Teachers`: probabilities that are all alike, of images as they are."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._answers = torch.zeros(len(images), 10, dtype=torch.float16)

    def view(self, number: int) -> tuple[np.ndarray, torch.Tensor]:
        return self._images, self._answers


def _images(run: Run) -> tuple[Split, Split]:
    """Training images and held-out ones; few of them in a dry run."""
    train, held_out = runs.split(dataset.load(Settings.from_environment().data).train, run.size(None, 512))
    return train, Split(*(each[: run.size(None, 500)] for each in held_out))


def _accuracy(classifier: torch.nn.Module, held_out: Split) -> float:
    return float(np.mean(predict(classifier, held_out.images).argmax(axis=1) == held_out.labels))
