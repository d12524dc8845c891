"""Whether two runs differ by more than the seeds' noise, or by more than the choice of test images."""

import itertools
import math
import statistics
from pathlib import Path
from typing import Any, Final

import numpy as np

from fashion_mnist.data.splits import Split
from fashion_mnist.network import load_weights
from training.loop import predict
from training.report import finished, read_summary

SIGNIFICANT: Final = 0.05

_MOST_SEEDS: Final = 10
"""All ways of dealing out 10 + 10 runs are 184,756."""


def compare(one: Path, other: Path, test: Split) -> dict[str, Any]:
    """The two runs themselves, image by image; and their recipes, over all seeds that lie beside each of them.

    `runs` holds both accuracies, the images that only the one and only the other names rightly, and the chance that as
    uneven a split comes from two equally good models (McNemar's exact test). `seeds` holds each recipe's accuracies and
    the chance that as large a difference of means comes from dealing out the same runs at random (exact permutation
    test); without two runs of each recipe that chance is None. Raises UsageError where a run is not finished.
    """
    summaries = [read_summary(folder) for folder in (one, other)]
    right = [
        predict(load_weights(folder / "weights.pt"), test.images).argmax(axis=1) == test.labels
        for folder in (one, other)
    ]
    only_one, only_other = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    accuracies = [
        [run["test_accuracy"] for run in finished(folder.parent) if _kind(run) == _kind(summary)][:_MOST_SEEDS]
        for folder, summary in zip((one, other), summaries, strict=True)
    ]
    same = _kind(summaries[0]) == _kind(summaries[1])
    return {
        "runs": {
            "accuracies": [float(values.mean()) for values in right],
            "only_right": [only_one, only_other],
            "chance": mcnemar(only_one, only_other),
        },
        "seeds": {
            "recipes": [summary["recipe"]["name"] for summary in summaries],
            "same_recipe": same,
            "accuracies": accuracies,
            "chance": None if same or min(map(len, accuracies)) < 2 else permutation_test(*accuracies),
        },
    }


def mcnemar(only_one: int, only_other: int) -> float:
    """The chance of a split at least so uneven where either side is as likely, two-sided."""
    count, fewer = only_one + only_other, min(only_one, only_other)
    tail = sum(math.comb(count, successes) for successes in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**count))


def permutation_test(ones: list[float], others: list[float]) -> float:
    """The share of all ways to deal the values out whose means differ at least as much, two-sided."""
    values = np.array(ones + others)
    difference = abs(statistics.mean(ones) - statistics.mean(others))
    count, total, dealt = len(ones), values.sum(), 0
    extreme = 0
    for chosen in itertools.combinations(values, count):
        part = sum(chosen)
        # A little less: the same difference, summed in another order, is not smaller.
        extreme += abs(part / count - (total - part) / len(others)) >= difference - 1e-12
        dealt += 1
    return extreme / dealt


def _kind(summary: dict[str, Any]) -> tuple[Any, ...]:
    return summary["recipe"], summary["train_images"]
