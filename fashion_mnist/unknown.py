"""How likely an image shows none of the ten classes, told from the answer's probabilities alone.

The score is the number of classes that take a real part in the answer once it is softened: with w = p ** (1 / 8),
(sum of w)^2 / (sum of w^2), from 1 to 10. The eighth root is a softmax at eight times the temperature, which brings
forward what the unlikely classes say of an image; the quotient is the exponential of its Renyi entropy of order 2. It
needs no more than an engine's answer holds. `fashion-mnist unknown` prints how well it tells garments from other
images, beside the energy of the logits, which an answer does not hold.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import CLASSES

_SOFTENING: Final = 1 / 8

_ONES: Final = np.ones(len(CLASSES))


def unknown_scores(probabilities: NDArray[np.float32]) -> list[float]:
    """A score, 1 to 10, for each row of probabilities, float32 [n, 10]: the higher, the less a known garment."""
    if len(probabilities) == 1:
        # NumPy's calls would take three times as long as the arithmetic, and most requests hold one image.
        few = [probability**_SOFTENING for probability in probabilities[0].tolist()]
        total = sum(few)
        return [total * total / sum([value * value for value in few])]
    # The same to the last digit that answers show, in a batch or alone. Three roots take less than the eighth one.
    softened = np.sqrt(np.sqrt(np.sqrt(probabilities, dtype=np.float64)))
    totals = softened @ _ONES
    scores: list[float] = (totals * totals / ((softened * softened) @ _ONES)).tolist()
    return scores
