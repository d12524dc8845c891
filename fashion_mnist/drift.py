"""Drift: how far incoming images and their predictions are from those of the training images.

Three figures of each image are counted in bins: its predicted class, the confidence (the probability of that class) and
its mean brightness. Their distance from the training images is the population stability index, the sum over the bins of
(a - e) ln(a / e), where e is a bin's share of the training images and a its share of the incoming ones; it is the
symmetric Kullback-Leibler divergence (Kullback and Leibler, "On Information and Sufficiency", 1951).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import ModelError

FIGURES: Final = ("class", "confidence", "brightness")
BINS: Final = 10
"""Bins of confidence and of brightness."""

CARD_SECTION: Final = "drift_reference"
"""The section of the model card with a `Reference`."""

MIN_SHARE: Final = 1e-4
"""The share of an empty bin, because the logarithm of 0 is undefined."""

_BINNED: Final = FIGURES[1:]


@dataclass(frozen=True)
class Reference:
    """The distribution of the training images, and thresholds of drift.

    `edges` are the nine edges between the ten bins of confidence and of brightness, ascending, float64 [2, 9]; `shares`
    the bins' shares, float64 [3, `max_bins(classes)`], where figures with fewer bins end in zeros; `thresholds`, by
    figure, the values that the index of `window` images rarely exceeds without drift.
    """

    classes: int

    edges: NDArray[np.float64]
    shares: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    window: int

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Self | None:
        """The reference in a model card; None if it has none. Raises ModelError."""
        if (section := card.get(CARD_SECTION)) is None:
            return None
        try:
            rows = [list(section["shares"][figure]) for figure in FIGURES]
            classes = len(rows[0])
            width = max_bins(classes)
            found = cls(
                classes=classes,
                edges=np.array([section["edges"][figure] for figure in _BINNED], np.float64),
                shares=np.array([row + [0.0] * (width - len(row)) for row in rows], np.float64),
                thresholds=np.array([section["thresholds"][figure] for figure in FIGURES], np.float64),
                window=int(section["window"]),
            )
            shapes = [array.shape for array in (found.edges, found.thresholds)]
            bins = [len(row) for row in rows[1:]]
            if shapes != [(len(_BINNED), BINS - 1), (len(FIGURES),)] or bins != [BINS, BINS] or found.window < 1:
                raise ValueError(f"shapes {shapes}, bins {bins}")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the model card's {CARD_SECTION} cannot be read ({error}): run `fashion-mnist export`"
            ) from None
        return found

    def to_card(self) -> dict[str, Any]:
        """The section for a model card."""
        return {
            "edges": dict(zip(_BINNED, self.edges.tolist(), strict=True)),
            "shares": {
                figure: row[: self.classes if figure == "class" else BINS]
                for figure, row in zip(FIGURES, self.shares.tolist(), strict=True)
            },
            "thresholds": dict(zip(FIGURES, self.thresholds.tolist(), strict=True)),
            "window": self.window,
        }

    def bins(self, probabilities: NDArray[np.float32], brightness: NDArray[np.float64]) -> NDArray[np.uint16]:
        """Each image's bin by figure, uint16 [3, n], of probabilities, float32 [n, classes], and brightness [n]."""
        confidence, light = (
            np.searchsorted(edges, values, side="right")
            for edges, values in zip(self.edges, (probabilities.max(axis=1), brightness), strict=True)
        )
        return np.array([probabilities.argmax(axis=1), confidence, light], np.uint16)

    def index(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The population stability index by figure, float64 [3], of counts of images by bin, as from `counts`."""
        return _index(self.shares, counts / counts.sum(axis=1, keepdims=True))


def brightness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Each image's mean brightness, 0 to 255, float64 [n], of uint8 [n, channels, height, width]."""
    pixels = images.reshape(len(images), images[0].size if len(images) else 1)
    sums: NDArray[np.uint64] = pixels.sum(axis=1, dtype=np.uint64)
    return sums / pixels.shape[1]


def max_bins(classes: int) -> int:
    """The number of bins of the figure with the most: one for each class, or BINS."""
    return max(classes, BINS)


def counts(bins: NDArray[np.unsignedinteger], classes: int = BINS) -> NDArray[np.float64]:
    """Images by bin, float64 [3, `max_bins(classes)`], of the images' bins, [3, n]."""
    return np.array([np.bincount(row, minlength=max_bins(classes)) for row in bins], np.float64)


def _index(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> NDArray[np.float64]:
    expected, actual = np.maximum(expected, MIN_SHARE), np.maximum(actual, MIN_SHARE)
    found: NDArray[np.float64] = ((actual - expected) * np.log(actual / expected)).sum(axis=-1)
    return found
