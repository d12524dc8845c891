"""How likely an image shows none of the ten classes, told from the answer's probabilities alone.

The score is the number of classes that take a real part in the answer once it is softened: with w = p ** (1 / 8),
(sum of w)^2 / (sum of w^2), from 1 to 10. The eighth root, which is three square roots, is a softmax at eight times the
temperature, which brings forward what the unlikely classes say of an image; the quotient is the exponential of its
Renyi entropy of order 2. It needs no more than an engine's answer holds. `fashion-mnist unknown` prints how well it
tells garments from other images, beside the energy of the logits, which an answer does not hold.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import CLASSES

_ONES: Final = np.ones(len(CLASSES))


def unknown_scores(probabilities: NDArray[np.float32]) -> list[float]:
    """A score, 1 to 10, for each row of probabilities, float32 [n, 10]: the higher, the less a known garment."""
    if len(probabilities) == 1:
        # NumPy's calls would take three times as long as the arithmetic, and most requests hold one image.
        few = list(map(math.sqrt, map(math.sqrt, probabilities[0].tolist())))
        total = sum(map(math.sqrt, few))
        return [total * total / sum(few)]
    # In float64 too: the same to the last digit that answers show, whether an image comes in a batch or alone.
    squares = np.sqrt(np.sqrt(probabilities, dtype=np.float64))
    totals = np.sqrt(squares) @ _ONES
    scores: list[float] = (totals * totals / (squares @ _ONES)).tolist()
    return scores
