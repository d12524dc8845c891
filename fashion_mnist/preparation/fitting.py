"""Resampling, trimming and centring: grayscale arrays of any size to the network's."""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_mnist.task import Geometry

Pixels: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Red, green and blue, as ITU-R BT.601 and JPEG weigh them."""


class Box(NamedTuple):
    """A part of an array: from `top` and `left` up to, without, `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left


def grayscale(pixels: Pixels) -> Pixels:
    """uint8 [h, w] of uint8 [h, w] or [h, w, 3]: luma."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(Image.fromarray(pixels).convert("L"))


def lay_over(pixels: Pixels, alpha: Pixels, ground: int) -> Pixels:
    """`pixels`, uint8 [h, w] or [h, w, 3], over a ground of one brightness, as far as `alpha`, uint8 [h, w], lets."""
    opacity = alpha.astype(np.uint16) if pixels.ndim == 2 else alpha.astype(np.uint16)[:, :, None]
    laid: Pixels = ((pixels * opacity + ground * (255 - opacity) + 127) // 255).astype(np.uint8)
    return laid


def reduce(pixels: Pixels, factor: int) -> Floats:
    """float32 [h, w, channels]: each pixel the mean of `factor` x `factor` of `pixels`, of fewer at the far edges."""
    if factor > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(factor))
    return np.atleast_3d(pixels).astype(np.float32)


def bounds(mask: Mask) -> Box | None:
    """The smallest box that holds all that is true in bool [h, w]; None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def fitted_size(height: int, width: int, geometry: Geometry) -> tuple[int, int]:
    """Height and width at which an image just fits the network's, its proportions kept; at least 1 x 1."""
    scale = min(geometry.height / height, geometry.width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resample(values: Floats, height: int, width: int) -> Floats:
    """float32 [h, w, ...] at another size: the mean over each new pixel's area, between pixels where it is enlarged."""
    for axis, size in ((0, height), (1, width)):
        if values.shape[axis] != size:
            values = _resample_along(values, axis, size)
    return values


def centre(values: Floats, geometry: Geometry, ground: int = 0) -> Pixels:
    """float32 [h, w], or [h, w, channels], of at most the network's size, rounded, in the middle of uint8 pixels."""
    height, width = values.shape[:2]
    canvas = np.full((geometry.height, geometry.width, *values.shape[2:]), ground, np.uint8)
    top, left = (geometry.height - height) // 2, (geometry.width - width) // 2
    canvas[top : top + height, left : left + width] = np.clip(values + np.float32(0.5), 0, 255)
    return canvas


def fit(pixels: Pixels, geometry: Geometry) -> Pixels:
    """uint8 [h, w] or [h, w, channels], scaled by its longer side and centred on black.

    It is unchanged where it has the network's size.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (geometry.height, geometry.width):
        return pixels
    return centre(resample(pixels.astype(np.float32), *fitted_size(height, width, geometry)), geometry)


def _resample_along(values: Floats, axis: int, size: int) -> Floats:
    values = np.moveaxis(values, axis, 0)
    length = len(values)
    others = (1,) * (values.ndim - 1)
    if size > length:
        positions = np.clip((np.arange(size, dtype=np.float32) + 0.5) * (length / size) - 0.5, 0, length - 1)
        below = np.minimum(positions.astype(np.intp), max(length - 2, 0))
        share = (positions - below).astype(np.float32).reshape(-1, *others)
        resampled = values[below] * (1 - share) + values[np.minimum(below + 1, length - 1)] * share
    else:
        # The integral at each new pixel's edges: exact also where an edge cuts a pixel.
        integral = np.zeros((length + 1, *values.shape[1:]), np.float32)
        np.cumsum(values, axis=0, out=integral[1:])
        edges = np.linspace(0, length, size + 1)
        below = np.minimum(edges.astype(np.intp), length - 1)
        share = (edges - below).astype(np.float32).reshape(-1, *others)
        resampled = np.diff(integral[below] + share * values[below], axis=0) * np.float32(size / length)
    return np.moveaxis(resampled, 0, axis)
