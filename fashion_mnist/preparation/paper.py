"""The data set authors' conversion of photographs: Xiao et al. 2017, arXiv:1708.07747, section 2."""

from typing import Final

import numpy as np

from fashion_mnist.preparation.fitting import Floats, Pixels, bounds, centre, fitted_size, grayscale
from fashion_mnist.task import Geometry

_CLOSE: Final = 0.05
"""An edge is trimmed if its distance from a corner's colour is at most this share of the maximum distance."""


def trim(pixels: Pixels) -> Pixels:
    """uint8 [h, w] or [h, w, 3] without the edges that have a corner's colour; unchanged if it has no other colour."""
    image = np.atleast_3d(pixels).astype(np.float32)
    limit = np.float32(image.shape[2] * (_CLOSE * 255) ** 2)
    away = np.ones(image.shape[:2], np.bool_)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        away &= np.square(image - image[row, column]).sum(axis=2) > limit
    box = bounds(away)
    return pixels[box.top : box.bottom, box.left : box.right] if box else pixels


def subsample(pixels: Pixels, geometry: Geometry) -> Pixels:
    """Scale the longest edge to the network's size, by skipping rows and columns."""
    height, width = pixels.shape[:2]
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip((height, width), fitted_size(height, width, geometry), strict=True)
    )
    some: Pixels = pixels[rows[:, None], columns]
    return some


def sharpen(pixels: Pixels) -> Floats:
    """float32 [h, w]: sharpened like ImageMagick, by a Gaussian operator of radius and standard deviation 1."""
    near, corner = np.exp(np.float32(-0.5)), np.exp(np.float32(-1))
    around = 1 + 4 * near + 4 * corner
    padded = np.pad(pixels.astype(np.float32), 1, mode="edge")
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    corners = padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]
    sharp: Floats = (2 * around * padded[1:-1, 1:-1] - near * sides - corner * corners) / (1 + around)
    return np.clip(sharp, 0, 255)


def as_the_paper(pixels: Pixels, geometry: Geometry) -> tuple[Pixels, Pixels]:
    """All steps in order: the trimmed photograph and, uint8 [height, width], the result."""
    trimmed = trim(pixels)
    sharp = sharpen(grayscale(np.ascontiguousarray(subsample(trimmed, geometry))))
    return trimmed, 255 - centre(sharp, geometry, background=255)
