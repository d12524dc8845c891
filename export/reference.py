"""The reference that drift is measured from: the training images as the exported model sees them."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.drift import BINS, Reference, brightness, counts, max_bins

WINDOW: Final = 1000
"""Images that one index is of."""

DRAWS: Final = 20_000
QUANTILE: Final = 0.999
"""One window in a thousand of held-out images exceeds a threshold."""

_SEED: Final = 0


def fit(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    train: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
) -> Reference:
    """Bins of equal shares from the training images, and thresholds from random windows of the held-out ones.

    Images are uint8 [n, c, h, w]; where few are held out, a window has some of them several times. `predict` gives
    their probabilities, float32 [n, classes]. The model is surer of images that it was trained on than of others.
    Held-out images are therefore a little away from the reference by themselves, which the thresholds, being fitted on
    them, allow for.
    """
    probabilities, light = predict(train), brightness(train)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = np.array([np.quantile(values.astype(np.float64), inner) for values in (probabilities.max(axis=1), light)])
    classes = probabilities.shape[1]
    empty = Reference(classes, edges, np.zeros((3, max_bins(classes))), np.zeros(3), WINDOW)
    shares = counts(empty.bins(probabilities, light), classes) / len(train)
    reference = Reference(classes, edges, shares, np.zeros(3), WINDOW)

    bins = reference.bins(predict(held_out), brightness(held_out))
    generator = np.random.default_rng(_SEED)
    windows = (
        bins[:, generator.choice(len(held_out), WINDOW, replace=len(held_out) < 2 * WINDOW)] for _ in range(DRAWS)
    )
    indices = np.array([reference.index(counts(window, classes)) for window in windows])
    return Reference(classes, edges, shares, np.quantile(indices, QUANTILE, axis=0), WINDOW)
