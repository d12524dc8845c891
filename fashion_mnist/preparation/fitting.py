"""Resampling, trimming and centring of grayscale arrays for the network's size."""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_mnist.task import Geometry

Pixels: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""The weights of red, green and blue in ITU-R BT.601 and JPEG."""


class Box(NamedTuple):
    """A part of an array: from `top` and `left` up to, but excluding, `bottom` and `right`."""

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
    """The luma, uint8 [h, w], of uint8 [h, w] or [h, w, 3]."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(Image.fromarray(pixels).convert("L"))


def blend(pixels: Pixels, alpha: Pixels, background: int) -> Pixels:
    """Blend `pixels`, uint8 [h, w] or [h, w, 3], with a uniform background, by the opacity `alpha`, uint8 [h, w]."""
    opacity = alpha.astype(np.uint16) if pixels.ndim == 2 else alpha.astype(np.uint16)[:, :, None]
    blended: Pixels = ((pixels * opacity + background * (255 - opacity) + 127) // 255).astype(np.uint8)
    return blended


def reduce(pixels: Pixels, factor: int) -> Floats:
    """float32 [h, w, channels]: the means of `factor` x `factor` pixels, of fewer at the bottom and right edges."""
    if factor > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(factor))
    return np.atleast_3d(pixels).astype(np.float32)


def bounds(mask: Mask) -> Box | None:
    """The bounding box of the true pixels in bool [h, w]; None if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def fitted_size(height: int, width: int, geometry: Geometry) -> tuple[int, int]:
    """Height and width at which an image just fits the network's size, with its proportions; at least 1 x 1."""
    scale = min(geometry.height / height, geometry.width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resample(values: Floats, height: int, width: int) -> Floats:
    """Resize float32 [h, w, ...]: average over each new pixel's area to reduce, interpolate linearly to enlarge."""
    for axis, size in ((0, height), (1, width)):
        if values.shape[axis] != size:
            values = _resample_along(values, axis, size)
    return values


def centre(values: Floats, geometry: Geometry, background: int = 0) -> Pixels:
    """Round float32 [h, w] or [h, w, channels], of at most the network's size, and centre it in uint8 pixels."""
    height, width = values.shape[:2]
    canvas = np.full((geometry.height, geometry.width, *values.shape[2:]), background, np.uint8)
    top, left = (geometry.height - height) // 2, (geometry.width - width) // 2
    canvas[top : top + height, left : left + width] = np.clip(values + np.float32(0.5), 0, 255)
    return canvas


def fit(pixels: Pixels, geometry: Geometry, resize: int | None = None) -> Pixels:
    """uint8 [h, w] or [h, w, channels], scaled by its longer side and centred on black.

    With `resize`, the shorter side is scaled to so many pixels, and the middle is cropped. An image that has the
    network's size is unchanged.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (geometry.height, geometry.width):
        return pixels
    if resize is not None:
        scale = resize / min(height, width)
        scaled = resample(pixels.astype(np.float32), round(height * scale), round(width * scale))
        top, left = (scaled.shape[0] - geometry.height) // 2, (scaled.shape[1] - geometry.width) // 2
        return centre(scaled[top : top + geometry.height, left : left + geometry.width], geometry)
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
        # Differences of the integral at each new pixel's edges, which may be within an old pixel.
        integral = np.zeros((length + 1, *values.shape[1:]), np.float32)
        np.cumsum(values, axis=0, out=integral[1:])
        edges = np.linspace(0, length, size + 1)
        below = np.minimum(edges.astype(np.intp), length - 1)
        share = (edges - below).astype(np.float32).reshape(-1, *others)
        resampled = np.diff(integral[below] + share * values[below], axis=0) * np.float32(size / length)
    return np.moveaxis(resampled, 0, axis)
