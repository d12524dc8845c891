"""What stands out from the ground: how much each pixel differs from it, which pixels are garment, which are shadow."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fashion_mnist.preparation import ground as grounds
from fashion_mnist.preparation.fitting import Box, Floats, Mask, Pixels, bounds, reduce
from fashion_mnist.task import Geometry

_ANALYSIS_SIDE: Final = 112
"""The longer side, in pixels, at which the garment is looked for."""

_GARMENT_SIDE: Final = 84
"""Its own longer side, at least, where there are as many pixels, before it is scaled to the network's size."""

_NOISE: Final = 5.0
_SHARE: Final = 0.2
"""A pixel is garment above so many standard deviations of the ground's noise and so great a share of the contrast."""

_SMALL_SHARE: Final = 0.05
"""The same of images too small to be blurred: there the palest edge is garment."""

FILLED: Final = 0.92
"""What takes so much of a frame's height or width fills it."""

FAINT: Final = 0.06
"""Less than this share of the contrast is ground."""

_LEAST_CONTRAST: Final = 8.0
_LEAST_SIGNAL: Final = 8.0
"""Below so many levels, or so many standard deviations of noise, nothing stands out."""

_TOP: Final = 0.995
"""The quantile that counts as the brightest: single pixels may shine."""

_SHADOW_SLOPE: Final = 0.04
_SHADOW_DEPTH: Final = 0.45
"""The steepest slope a pixel, and the depth, of a shadow, as shares of the contrast."""

_SHADOW_REACH: Final = 3
_SHADOW_TOLERANCE: Final = 0.02
"""How many pixels it goes on beside an outline, and by which share of the contrast it may be deeper there."""

_SHADOW_LEAST: Final = 0.03
"""A smaller share of what stands out is a garment's own pale edge."""

_SWEEPS: Final = 16
"""Of the search for shadows: four do for most, and time is bounded."""

_SMOOTHED_FROM: Final = 64
"""Smaller images have no noise to spare: smoothed, their garments would grow by a pixel."""


@dataclass(frozen=True, slots=True)
class Garment:
    """What stands out from a photograph's ground."""

    values: Floats
    """float32 [h, w]: by how many levels each pixel within the box differs from the ground; 0 where there is none."""
    box: Box
    """Where that is, in the photograph's pixels."""
    fills: float
    """The greater of the shares of the photograph's height and width that it takes."""
    border: float
    """The brightness that a quarter of the photograph's border is below."""
    dark: bool
    """Whether it is darker than the ground."""


def find(pixels: Pixels, geometry: Geometry) -> Garment | None:
    """The garment in uint8 [h, w] or [h, w, 3]; None where nothing stands out.

    Where it fills a frame of the network's proportions it keeps that frame: nobody knows its size better.
    """
    height, width = pixels.shape[:2]
    factor = -(-max(height, width) // _ANALYSIS_SIDE)
    image = reduce(pixels, factor)
    found = separate(image)
    rough = bounds(found.mask) if found else None
    if found is None or rough is None:
        return None
    mask = found.mask
    keeps_frame = (
        height * geometry.width == width * geometry.height
        and max(rough.height / mask.shape[0], rough.width / mask.shape[1]) >= FILLED
    )
    if keeps_frame:
        rough = Box(0, 0, *mask.shape)
    elif found.dark:
        found = without_shadow(found)
        rough = bounds(found.mask) or rough
    # Once more, from the photograph's own pixels: what was found is often a small part of it.
    margin = 2 * factor
    top, left = max(0, rough.top * factor - margin), max(0, rough.left * factor - margin)
    crop = pixels[top : rough.bottom * factor + margin, left : rough.right * factor + margin]
    step = max(1, max(crop.shape[:2]) // _GARMENT_SIDE)
    fine = reduce(np.ascontiguousarray(crop), step)
    rows = top + step * (np.arange(fine.shape[0], dtype=np.float32) + np.float32(0.5))
    columns = left + step * (np.arange(fine.shape[1], dtype=np.float32) + np.float32(0.5))
    y, x = (
        2 * at / np.float32(factor * length) - 1 for at, length in zip((rows, columns), image.shape[:2], strict=True)
    )
    values: Floats = np.matmul(found.ground.at(y, x) - fine, found.direction)
    allowed = found.visible[
        np.minimum((rows / factor).astype(np.intp), len(mask) - 1)[:, None],
        np.minimum((columns / factor).astype(np.intp), mask.shape[1] - 1)[None, :],
    ]
    box = Box(0, 0, *values.shape) if keeps_frame else bounds((_smooth(values) > found.threshold) & allowed)
    if box is None:
        return None
    values = np.where(allowed, values, 0)[box.top : box.bottom, box.left : box.right]
    bottom, right = min(top + box.bottom * step, height), min(left + box.right * step, width)
    place = Box(top + box.top * step, left + box.left * step, bottom, right)
    return Garment(
        values,
        place,
        fills=max(place.height / height, place.width / width),
        border=float(np.quantile(image[grounds.border(*mask.shape)].mean(axis=1), 0.25)),
        dark=found.dark,
    )


@dataclass(frozen=True, slots=True)
class Separation:
    """What of a photograph is ground and what is garment."""

    ground: grounds.Ground
    direction: Floats
    """The colours' main direction, float32 [channels]."""
    mask: Mask
    """bool [h, w]: what is garment for certain."""
    visible: Mask
    """bool [h, w]: what may be; the rest is made black."""
    threshold: float
    """The difference from the ground, in levels, from which on a pixel is garment."""
    values: Floats
    """float32 [h, w]: by how many levels each pixel differs from the ground, smoothed."""
    contrast: float
    noise: float
    """Of the values, in levels: the brightest, and the ground's standard deviation."""

    @property
    def dark(self) -> bool:
        """Whether the garment is darker than the ground."""
        return float(self.direction.sum()) > 0


def separate(image: Floats) -> Separation | None:
    """The garment and the ground of float32 [h, w, channels]; None where nothing stands out."""
    height, width, _ = image.shape
    y, x = grounds.coordinates(height), grounds.coordinates(width)
    ring = grounds.border(height, width)
    ground = grounds.from_border(image)
    for last in (False, True):
        differences = ground.at(y, x) - image
        direction = main_direction(differences)
        values: Floats = np.matmul(differences, direction)
        noise = 1.4826 * float(np.median(np.abs(values[ring])))
        smoothed = _smooth(values)
        share = _SMALL_SHARE
        if smoothed is not values:
            noise, share = noise / 3, _SHARE
        contrast = brightest(smoothed)
        threshold = max(_NOISE * noise, share * contrast, 2.0)
        mask = smoothed > threshold
        if not last:
            surface = grounds.from_pixels(image, ~_dilate(_dilate(mask)) & (np.abs(smoothed) <= threshold))
            ground = surface or ground
    if contrast < max(_LEAST_CONTRAST, _LEAST_SIGNAL * noise):
        return None
    visible = _dilate(smoothed > max(_NOISE * noise, FAINT * contrast))
    return Separation(ground, direction, mask, visible, threshold, smoothed, contrast, noise)


def without_shadow(found: Separation) -> Separation:
    """The same without the soft shadows that a garment darker than the ground cannot be told from by brightness."""
    reached = shadow(found.values, found.threshold, found.contrast, found.noise)
    lit = found.mask & ~reached
    if not 0 < lit.sum() < (1 - _SHADOW_LEAST) * found.mask.sum():
        return found
    reached = _up_to_outlines(reached, found.values, _SHADOW_TOLERANCE * found.contrast + found.noise)
    lit = found.mask & ~reached
    return replace(found, mask=lit, visible=_dilate(lit) & ~reached) if lit.any() else found


def main_direction(differences: Floats) -> Floats:
    """The unit vector along which float32 [h, w, channels] mostly lie: from garment to ground, whatever their colours.

    It is the first principal axis of the differences, the great ones counting most, turned to where they point.
    """
    # Every other row is enough.
    flat = differences[::2].reshape(-1, differences.shape[-1])
    weighted = flat * (flat * flat).sum(axis=1, keepdims=True)
    direction = np.linalg.eigh((weighted.T @ flat).astype(np.float64))[1][:, -1].astype(np.float32)
    along = flat @ direction
    return direction if float((along * np.abs(along)).sum()) >= 0 else -direction


def brightest(values: Floats) -> float:
    """The 99.5th percentile."""
    place = min(int(_TOP * values.size), values.size - 1)
    return float(np.partition(values, place, axis=None)[place])


def shadow(values: Floats, threshold: float, contrast: float, noise: float) -> Mask:
    """bool [h, w]: what is reached from the border without crossing an outline: the ground, and soft shadows on it.

    `values` are the smoothed differences, float32 [h, w].
    """
    padded = np.pad(values, 1, mode="edge")
    slope = np.maximum(
        np.abs(padded[1:-1, 2:] - padded[1:-1, :-2]), np.abs(padded[2:, 1:-1] - padded[:-2, 1:-1])
    ) * np.float32(0.5)
    allowed = (slope < max(_SHADOW_SLOPE * contrast, 2 * noise)) & (values < _SHADOW_DEPTH * contrast)
    reached: Mask = np.zeros_like(allowed)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        reached[edge] = allowed[edge] & (values[edge] <= threshold)
    for _ in range(_SWEEPS):
        before = reached.sum()
        reached = _spread(_spread(reached, allowed).T, allowed.T).T
        if reached.sum() == before:
            break
    return reached


def _smooth(values: Floats) -> Floats:
    """The mean of each pixel and its eight neighbours; small images as they are."""
    if max(values.shape) < _SMOOTHED_FROM:
        return values
    padded = np.pad(values, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smoothed: Floats = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 9)
    return smoothed


def _dilate(mask: Mask) -> Mask:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _up_to_outlines(reached: Mask, values: Floats, tolerance: float) -> Mask:
    """A shadow and what is next to it and no deeper: beside an outline all is too steep to be reached."""
    depth = np.where(reached, values, -np.inf).astype(np.float32)
    for _ in range(_SHADOW_REACH):
        beside = _greatest_beside(depth)
        joins = np.isneginf(depth) & (values <= beside + tolerance)
        depth[joins] = beside[joins]
    shaded: Mask = np.isfinite(depth)
    return shaded


def _greatest_beside(values: Floats) -> Floats:
    """The greatest of each pixel's four neighbours."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    greatest: Floats = np.maximum(
        np.maximum(padded[2:, 1:-1], padded[:-2, 1:-1]), np.maximum(padded[1:-1, 2:], padded[1:-1, :-2])
    )
    return greatest


def _spread(reached: Mask, allowed: Mask) -> Mask:
    """Along each row, from what is reached to all that is allowed and connected with it."""
    starts = ~allowed
    starts[:, 0] = True
    runs = np.cumsum(starts)
    hit = np.zeros(runs[-1] + 1, np.bool_)
    hit[runs[reached.ravel()]] = True
    spread: Mask = (hit[runs] & allowed.ravel()).reshape(allowed.shape)
    return spread
