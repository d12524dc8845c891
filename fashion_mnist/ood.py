"""How likely an image shows none of the classes, told from the answer's probabilities alone.

The score is the number of classes that take a real part in the answer once it is softened: with w = p ** (1 / 8),
(sum of w)^2 / (sum of w^2), from 1 to the number of classes. The eighth root, which is three square roots, is a softmax
at eight times the temperature, which brings forward what the unlikely classes say of an image; the quotient is the
exponential of its Renyi entropy of order 2. It needs no more than an engine's answer holds. `fashion-mnist unknown`
prints how well it tells the data set's images from others, beside the energy of the logits, which no answer holds.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray


def unknown_scores(probabilities: NDArray[np.float32]) -> list[float]:
    """A score, 1 to the number of classes, for each row of probabilities, float32 [n, classes].

    The higher, the less an image of what the model knows.
    """
    if len(probabilities) == 1:
        # NumPy's calls would take three times as long as the arithmetic, and most requests hold one image.
        few = list(map(math.sqrt, map(math.sqrt, probabilities[0].tolist())))
        total = sum(map(math.sqrt, few))
        return [total * total / sum(few)]
    # In float64 too: the same to the last digit that answers show, whether an image comes in a batch or alone.
    squares = np.sqrt(np.sqrt(probabilities, dtype=np.float64))
    ones = _ones(probabilities.shape[1])
    totals = np.sqrt(squares) @ ones
    scores: list[float] = (totals * totals / (squares @ ones)).tolist()
    return scores


@functools.cache
def _ones(count: int) -> NDArray[np.float64]:
    return np.ones(count)
