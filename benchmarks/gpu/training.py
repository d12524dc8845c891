"""Training on the GPU: many seeds of one recipe at once, and an epoch of each recipe."""

import dataclasses
import statistics
import time
from typing import Any, Final, cast

import numpy as np
import torch

from benchmarks.gpu.steps import Found, Run
from fashion_mnist import dataset
from fashion_mnist.dataset import Split
from fashion_mnist.settings import Settings
from training import runs
from training.augment import draw_moves
from training.loop import Trainer, predict
from training.many_seeds import ManySeeds
from training.recipes import LABELS, RECIPES, Recipe
from training.teachers import Teachers

SEEDS: Final = 256
EPOCHS: Final = 2
NOISE: Final = 0.02
"""By so much two trainings of one seed may differ in accuracy, on 5,000 images."""


def many_seeds(run: Run) -> Found:
    """Many seeds of a short `labels` at once: seconds, accuracy's mean and spread; one of them beside the CPU's."""
    recipe = dataclasses.replace(LABELS, epochs=run.size(EPOCHS, 1))
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
        teachers = cast(Teachers, _Teachers(recipe, len(train.images))) if recipe.teachers else None
        trainer = Trainer(recipe, train, seed=0, device=torch.device(run.device), teachers=teachers)
        seconds = [round(trainer.run_epoch()["seconds"], 2) for _ in range(run.size(2, 1))]
        rows.append(
            {"recipe": recipe.name, "first epoch, s": seconds[0], "next, s": seconds[-1], "epochs": recipe.epochs}
        )
    return {"epochs": rows}


class _Teachers:
    """In place of `training.teachers.Teachers`: answers of zeros, which take as long to imitate."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._moves = draw_moves(images, flip=recipe.flip, shift=recipe.shift, generator=generator)
        self._answers = torch.zeros(images, 10, dtype=torch.float16)

    def view(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._moves, self._answers


def _images(run: Run) -> tuple[Split, Split]:
    """Training images and held-out ones; few of them in a dry run."""
    train, held_out = runs.split(dataset.load(Settings.from_environment().data).train, run.size(None, 512))
    return train, Split(*(each[: run.size(None, 500)] for each in held_out))


def _accuracy(classifier: torch.nn.Module, held_out: Split) -> float:
    return float(np.mean(predict(classifier, held_out.images).argmax(axis=1) == held_out.labels))
