"""The out-of-distribution (OOD) score: how likely an image shows none of the classes, from its probabilities.

The score is the effective number of classes at a higher temperature: with w = p ** (1 / 8), (sum of w)^2 /
(sum of w^2), from 1 to the number of classes. The eighth root, which is three square roots, equals a softmax at eight
times the temperature, which raises the influence of unlikely classes; the quotient is the exponential of the Renyi
entropy of order 2. It needs only an engine's answer. `fashion-mnist unknown` prints how well it separates the data
set's images from others, compared with the energy of the logits, which answers do not contain.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray


def unknown_scores(probabilities: NDArray[np.float32]) -> list[float]:
    """The score, 1 to the number of classes, of each row of probabilities, float32 [n, classes].

    The higher, the less likely the image shows one of the classes.
    """
    if len(probabilities) == 1:
        # NumPy would take three times as long, and most requests have one image.
        few = list(map(math.sqrt, map(math.sqrt, probabilities[0].tolist())))
        total = sum(map(math.sqrt, few))
        return [total * total / sum(few)]
    # In float64, too, so that an image's score is the same in a batch and alone.
    squares = np.sqrt(np.sqrt(probabilities, dtype=np.float64))
    ones = _ones(probabilities.shape[1])
    totals = np.sqrt(squares) @ ones
    scores: list[float] = (totals * totals / (squares @ ones)).tolist()
    return scores


@functools.cache
def _ones(count: int) -> NDArray[np.float64]:
    return np.ones(count)
