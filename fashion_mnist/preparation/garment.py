"""Finds the garment: how much each pixel differs from the background, and which are garment and which are shadow."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fashion_mnist.preparation import background as backgrounds
from fashion_mnist.preparation.fitting import Box, Floats, Mask, Pixels, bounds, reduce
from fashion_mnist.task import Geometry

_ANALYSIS_SIDE: Final = 112
"""The longer side, in pixels, to which pictures are reduced to find the garment."""

_GARMENT_SIDE: Final = 84
"""The minimum longer side of the garment, if it has as many pixels, before it is scaled to the network's size."""

_NOISE: Final = 5.0
_SHARE: Final = 0.2
"""A pixel is garment if it differs from the background by more than _NOISE standard deviations of the background's
noise and the share _SHARE of the contrast."""

_SMALL_SHARE: Final = 0.05
"""_SHARE for images that are too small to be smoothed."""

FILLED: Final = 0.92
"""A garment that takes this share of a frame's height or width fills it."""

FAINT: Final = 0.06
"""Pixels below this share of the contrast are background."""

_MIN_CONTRAST: Final = 8.0
_MIN_SIGNAL: Final = 8.0
"""Below this contrast, in levels or in standard deviations of noise, there is no garment."""

_TOP: Final = 0.995
"""The quantile that counts as the brightest, to ignore single pixels."""

_SHADOW_SLOPE: Final = 0.04
_SHADOW_DEPTH: Final = 0.45
"""The maximum slope per pixel and the maximum depth of a shadow, as shares of the contrast."""

_SHADOW_REACH: Final = 3
_SHADOW_TOLERANCE: Final = 0.02
"""How many pixels a shadow extends beside an outline, and by which share of the contrast it may be deeper there."""

_MIN_SHADOW: Final = 0.03
"""A smaller share of the garment's pixels is the garment's own pale edge, not a shadow."""

_SWEEPS: Final = 16
"""The maximum number of passes in the search for shadows; most pictures need four."""

_SMOOTHED_FROM: Final = 64
"""Smaller images are not smoothed, because their garments would grow by a pixel."""


@dataclass(frozen=True, slots=True)
class Garment:
    """The garment of a photograph."""

    values: Floats
    """float32 [h, w]: each pixel's difference from the background within the box, in levels; 0 for background."""
    box: Box
    """The garment's bounding box, in the photograph's pixels."""
    fills: float
    """The larger of the shares of the photograph's height and width that the box takes."""
    border: float
    """The lower quartile of the brightness of the photograph's border."""
    dark: bool
    """Whether the garment is darker than the background."""


def find(pixels: Pixels, geometry: Geometry) -> Garment | None:
    """The garment in uint8 [h, w] or [h, w, 3]; None if nothing stands out.

    A garment that fills a frame of the network's proportions keeps that frame as its box.
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
    # Again with the photograph's own pixels, because the garment is often a small part of it.
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
    values: Floats = np.matmul(found.background.at(y, x) - fine, found.direction)
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
        border=float(np.quantile(image[backgrounds.border(*mask.shape)].mean(axis=1), 0.25)),
        dark=found.dark,
    )


@dataclass(frozen=True, slots=True)
class Separation:
    """The separation of a photograph into background and garment."""

    background: backgrounds.Background
    direction: Floats
    """The main direction of the colour differences, float32 [channels]."""
    mask: Mask
    """bool [h, w]: pixels that are certainly garment."""
    visible: Mask
    """bool [h, w]: pixels that may be garment; the others become black."""
    threshold: float
    """The minimum difference of a garment's pixel from the background, in levels."""
    values: Floats
    """float32 [h, w]: each pixel's difference from the background, in levels, smoothed."""
    contrast: float
    """The brightest of the values, in levels."""
    noise: float
    """The background's standard deviation, in levels."""

    @property
    def dark(self) -> bool:
        """Whether the garment is darker than the background."""
        return float(self.direction.sum()) > 0


def separate(image: Floats) -> Separation | None:
    """Separate garment and background of float32 [h, w, channels]; None if nothing stands out."""
    height, width, _ = image.shape
    y, x = backgrounds.coordinates(height), backgrounds.coordinates(width)
    ring = backgrounds.border(height, width)
    background = backgrounds.from_border(image)
    for last in (False, True):
        differences = background.at(y, x) - image
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
            surface = backgrounds.from_pixels(image, ~_dilate(_dilate(mask)) & (np.abs(smoothed) <= threshold))
            background = surface or background
    if contrast < max(_MIN_CONTRAST, _MIN_SIGNAL * noise):
        return None
    visible = _dilate(smoothed > max(_NOISE * noise, FAINT * contrast))
    return Separation(background, direction, mask, visible, threshold, smoothed, contrast, noise)


def without_shadow(found: Separation) -> Separation:
    """Remove soft shadows, whose brightness is like that of a garment darker than the background."""
    reached = shadow(found.values, found.threshold, found.contrast, found.noise)
    lit = found.mask & ~reached
    if not 0 < lit.sum() < (1 - _MIN_SHADOW) * found.mask.sum():
        return found
    reached = _extend_to_outlines(reached, found.values, _SHADOW_TOLERANCE * found.contrast + found.noise)
    lit = found.mask & ~reached
    return replace(found, mask=lit, visible=_dilate(lit) & ~reached) if lit.any() else found


def main_direction(differences: Floats) -> Floats:
    """The unit vector from garment to background in colour space, from differences, float32 [h, w, channels].

    It is the first principal axis of the differences, weighted by their size, oriented along them.
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
    """bool [h, w]: the background and its soft shadows, which are reached from the border without crossing an outline.

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
    """The mean of each pixel and its eight neighbours; small images are unchanged."""
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


def _extend_to_outlines(reached: Mask, values: Floats, tolerance: float) -> Mask:
    """Extend a shadow to adjacent pixels of no greater depth, because slopes beside an outline are too steep."""
    depth = np.where(reached, values, -np.inf).astype(np.float32)
    for _ in range(_SHADOW_REACH):
        beside = _neighbours_maximum(depth)
        joins = np.isneginf(depth) & (values <= beside + tolerance)
        depth[joins] = beside[joins]
    shaded: Mask = np.isfinite(depth)
    return shaded


def _neighbours_maximum(values: Floats) -> Floats:
    """The maximum of each pixel's four neighbours."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    greatest: Floats = np.maximum(
        np.maximum(padded[2:, 1:-1], padded[:-2, 1:-1]), np.maximum(padded[1:-1, 2:], padded[1:-1, :-2])
    )
    return greatest


def _spread(reached: Mask, allowed: Mask) -> Mask:
    """Extend `reached` along each row to all connected pixels that are allowed."""
    starts = ~allowed
    starts[:, 0] = True
    runs = np.cumsum(starts)
    hit = np.zeros(runs[-1] + 1, np.bool_)
    hit[runs[reached.ravel()]] = True
    spread: Mask = (hit[runs] & allowed.ravel()).reshape(allowed.shape)
    return spread
