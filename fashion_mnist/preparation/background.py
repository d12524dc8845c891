"""The background of a photograph: a surface fitted to its border, then to all pixels that are not garment."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.preparation.fitting import Floats, Mask

_BORDER: Final = 0.04
"""The border's width, as a share of the shorter side."""

_CORNER: Final = 0.1
_ROUNDS: Final = 2
_MIN_PIXELS: Final = 16
"""The minimum number of pixels to fit a surface."""


class Background(NamedTuple):
    """A surface per channel: float32 [3 or 6, channels], the coefficients of a plane or a second-degree polynomial."""

    coefficients: Floats

    def at(self, y: Floats, x: Floats) -> Floats:
        """The colours, float32 [len(y), len(x), channels], at rows and columns from -1 to 1."""
        return _terms(y, x, len(self.coefficients)) @ self.coefficients


def coordinates(length: int) -> Floats:
    """The centres of `length` pixels, from -1 to 1."""
    return ((np.arange(length, dtype=np.float32) + 0.5) * np.float32(2 / length) - 1).astype(np.float32)


def border(height: int, width: int) -> Mask:
    """bool [height, width]: the pixels along the edges."""
    thickness = max(1, round(_BORDER * min(height, width)))
    ring = np.ones((height, width), np.bool_)
    ring[thickness:-thickness, thickness:-thickness] = False
    return ring


def from_border(image: Floats) -> Background:
    """A plane that is close to most of the border of float32 [h, w, channels], robust against the rest.

    The candidates are the planes through three of the four corners, and constant ones; that of the least median
    residual is fitted by least squares to the pixels close to it.
    """
    height, width, channels = image.shape
    ring = border(height, width)
    terms = _terms(coordinates(height), coordinates(width), 3)
    # Every other pixel is enough.
    ring_terms, colours = terms[ring][::2], image[ring][::2]
    candidates = [_constant(np.median(colours, axis=0))]
    depth, breadth = max(1, round(_CORNER * height)), max(1, round(_CORNER * width))
    corners = [
        (
            terms[rows, columns].reshape(-1, 3).mean(axis=0),
            np.median(image[rows, columns].reshape(-1, channels), axis=0),
        )
        for rows in (slice(depth), slice(height - depth, height))
        for columns in (slice(breadth), slice(width - breadth, width))
    ]
    candidates += [_constant(colour) for _, colour in corners]
    if min(height, width) > 2:
        for left_out in range(4):
            three = corners[:left_out] + corners[left_out + 1 :]
            candidates.append(np.linalg.solve(*(np.stack(each) for each in zip(*three, strict=True))))
    some_terms, some_colours = ring_terms[::2], colours[::2]
    planes = np.stack(candidates).astype(np.float32)
    residuals = np.abs(some_colours - some_terms @ planes).sum(axis=2)
    plane = planes[np.median(residuals, axis=1).argmin()]
    for _ in range(_ROUNDS):
        distances = np.abs(colours - ring_terms @ plane).sum(axis=1)
        close = distances <= max(3 * float(np.median(distances)), 4.0)
        if close.sum() < _MIN_PIXELS:
            break
        plane = _least_squares(ring_terms[close], colours[close])
    return Background(plane)


def from_pixels(image: Floats, free: Mask) -> Background | None:
    """A second-degree surface fitted to the `free` pixels of float32 [h, w, channels]; None if they are too few."""
    height, width, _ = image.shape
    if free.sum() < max(_MIN_PIXELS, free.size // 50):
        return None
    # Every other row is enough for six coefficients.
    terms = _terms(coordinates(height)[::2], coordinates(width), 6)
    return Background(_least_squares(terms[free[::2]], image[::2][free[::2]]))


def _terms(y: Floats, x: Floats, count: int) -> Floats:
    rows, columns = y[:, None], x[None, :]
    terms = np.empty((len(y), len(x), count), np.float32)
    every = (np.float32(1), columns, rows, rows * columns, columns * columns, rows * rows)
    for place, term in enumerate(every[:count]):
        terms[:, :, place] = term
    return terms


def _constant(colour: NDArray[np.floating]) -> Floats:
    return np.stack([colour, np.zeros_like(colour), np.zeros_like(colour)]).astype(np.float32)


def _least_squares(terms: Floats, colours: Floats) -> Floats:
    normal = (terms.T @ terms).astype(np.float64)
    # Regularise: if all pixels are on a line, the undetermined coefficient is 0.
    normal[np.diag_indices(len(normal))] += 1e-6 * len(terms)
    return np.linalg.solve(normal, (terms.T @ colours).astype(np.float64)).astype(np.float32)
