"""A decoded image file before preparation, and its conversion from Pillow's image."""

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_mnist.errors import CorruptImage

Pixels: TypeAlias = NDArray[np.uint8]

_STRIP_PIXELS: Final = 2**19
"""Pixels that are converted at once: converting a whole large image would take several times its memory."""

_SHIFTS: Final = {"I;12": 4}
"""The bits by which the samples of a 16-bit mode are reduced, if not 8, by the file's layout."""

_GRAY_LEVELS: Final = {"L;2": 85, "L;4": 17}
"""The 8-bit value of one step of a sample, by the file's layout. Pillow scales pixels, but not the tRNS value."""


@dataclass(frozen=True)
class Picture:
    """An image file's pixels: upright, 8 bits per channel, and no larger than needed."""

    pixels: Pixels
    """uint8 [height, width] for a grayscale image, else uint8 [height, width, 3], RGB."""
    alpha: Pixels | None
    """uint8 [height, width], 0 for transparent pixels; None for an opaque image."""
    width: int
    height: int
    """The size of the whole image in pixels, upright; `pixels` may be smaller."""
    notes: list[str] = field(default_factory=list)
    """The changes made by decoding, for people."""


def as_picture(image: Pixels) -> Pixels:
    """The network's image, uint8 [channels, height, width], as a picture has it: [height, width] or RGB."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def to_picture(
    image: Image.Image, layout: str, size: tuple[int, int], orientation: int, working_side: int, notes: list[str]
) -> Picture:
    """A loaded image as a picture, its longer side reduced to at least `working_side` pixels.

    `layout` is Pillow's name for the format of the samples in the file (its raw mode), `size` the whole image's width
    and height as stored, and `orientation` EXIF's, 1 to 8. `notes` are earlier changes.
    Raises CorruptImage for samples of 32 bits or floating point.
    """
    notes = list(notes)
    if layout.startswith(("I;16", "I;12")) or ";16" in layout:
        notes.append("16 bits a channel reduced to 8")
    elif image.mode in ("I", "F"):
        raise CorruptImage("samples of 32 bits or floating point are not supported: save it with 8 or 16 bits")
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB")
    factor = max(1, max(image.size) // working_side)
    rows = max(1, _STRIP_PIXELS // image.width // factor) * factor
    colors, alphas = [], []
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.info, strip.palette = image.info, image.palette
        strip = _plain(strip, layout)
        array = np.asarray(strip.reduce(factor) if factor > 1 else strip)
        if strip.mode in ("LA", "RGBA"):
            alphas.append(array[:, :, -1])
            array = array[:, :, :-1]
        if layout.startswith("LA") or strip.mode == "LA":
            array = array[:, :, 0]
        colors.append(array)
    pixels = np.concatenate(colors)
    alpha = np.concatenate(alphas) if alphas else None
    if alpha is not None and alpha.min() == 255:
        alpha = None
    width, height = size
    if 2 <= orientation <= 8:
        pixels, alpha = _upright(pixels, orientation), None if alpha is None else _upright(alpha, orientation)
        notes.append("turned upright")
        if orientation > 4:
            width, height = height, width
    return Picture(pixels, alpha, width, height, notes)


def _plain(strip: Image.Image, layout: str) -> Image.Image:
    """Part of an image in one of the modes L, LA, RGB and RGBA."""
    mode, transparency = strip.mode, strip.info.get("transparency")
    if mode.startswith("I;16"):
        samples = np.asarray(strip)
        if layout.endswith(";I"):
            samples = ~samples  # white is zero, which Pillow handles only for fewer bits
        gray = (samples >> _SHIFTS.get(layout, 8)).astype(np.uint8)
        return _keyed(gray, samples == transparency) if isinstance(transparency, int) else Image.fromarray(gray)
    if mode in ("1", "L"):
        gray = np.asarray(strip.convert("L"))
        if isinstance(transparency, int):
            return _keyed(gray, gray == transparency * _GRAY_LEVELS.get(layout, 1))
        return Image.fromarray(gray)
    if mode == "RGB" and isinstance(transparency, tuple):
        # Pillow keeps the upper eight of 16 bits.
        key = [value >> 8 if ";16" in layout else value for value in transparency]
        color = np.asarray(strip)
        return _keyed(color, (color == key).all(axis=2))
    if mode in ("L", "LA", "RGB", "RGBA"):
        return strip
    if mode == "La":
        return strip.convert("LA")
    if mode in ("PA", "RGBa") or (mode == "P" and transparency is not None):
        return strip.convert("RGBA")
    return strip.convert("RGB")


def _keyed(color: NDArray[Any], transparent: NDArray[np.bool_]) -> Image.Image:
    """Grayscale or RGB with these pixels transparent."""
    return Image.fromarray(np.dstack([color, np.where(transparent, 0, 255).astype(np.uint8)]))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Rotate and mirror pixels by EXIF's orientation. Source: Exif 2.32, 4.6.4, tag 274."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
