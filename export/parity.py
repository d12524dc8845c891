"""Parity: that an exported model answers what the classifier itself answers, on every image of the test set."""

import dataclasses
from typing import Final

import numpy as np
import torch

from fashion_mnist.engines import Engine
from fashion_mnist.errors import ExportError
from fashion_mnist.network import Classifier

LIMIT: Final = 1e-5
"""The largest difference in a probability that float32's rounding may explain."""

BATCH: Final = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """How an engine's answers differ from the classifier's own."""

    engine: str
    images: int
    labels_that_differ: int
    largest_difference: float

    def check(self) -> None:
        """Raise ExportError where a label differs or a probability differs by more than `LIMIT`."""
        if self.labels_that_differ or not self.largest_difference <= LIMIT:
            raise ExportError(
                f"{self.engine} disagrees with the network: {self.labels_that_differ} of {self.images} labels differ, "
                f"the largest difference in probability is {self.largest_difference:.1e} (at most {LIMIT:.0e}); "
                "the old files are untouched"
            )


def reference(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """The classifier's own answers: uint8 [n, c, h, w] -> float32 [n, classes], in PyTorch on the CPU, step by step."""
    starts = range(0, len(images), BATCH)
    with torch.inference_mode():
        batches = [torch.tensor(images[start : start + BATCH]) for start in starts]
        return torch.cat([classifier.eval()(batch) for batch in batches]).numpy()


def answers(engine: Engine, images: np.ndarray) -> np.ndarray:
    """An engine's answers: uint8 [n, channels, height, width] -> float32 [n, classes]."""
    return np.concatenate([engine.predict(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def compare(engine: str, expected: np.ndarray, found: np.ndarray) -> Parity:
    """Compare two float32 [n, classes]; NaN is a difference like any other."""
    return Parity(
        engine=engine,
        images=len(expected),
        labels_that_differ=int(np.count_nonzero(expected.argmax(axis=1) != found.argmax(axis=1))),
        largest_difference=float(np.abs(expected - found).max()),
    )
