"""Images that show no garment as the data set does: drawn here, to see whether a model knows them for such."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fashion_mnist.classes import GEOMETRY
from training.warping import gaussian_blur

Images = NDArray[np.uint8]

_SIDE: Final = GEOMETRY.height
_FONTS: Final = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono-Bold", "STIXGeneralItalic")
"""Of those that come with Matplotlib."""


def digits(garments: Images, generator: np.random.Generator) -> Images:
    """Digits like MNIST's: white on black, some 20 pixels high, slanted, of several hands."""
    images = np.empty_like(garments)
    for image in images:
        # Digits are three quarters of a font's size high.
        font = _font(str(generator.choice(_FONTS)), int(generator.integers(90, 112)))
        text, stroke = str(generator.integers(10)), int(generator.integers(0, 4))
        drawn = Image.new("L", (4 * _SIDE, 4 * _SIDE))
        ImageDraw.Draw(drawn).text((2 * _SIDE, 2 * _SIDE), text, 255, font, anchor="mm", stroke_width=stroke)
        slant = generator.uniform(-0.3, 0.3)
        matrix = (1, slant, -slant * 2 * _SIDE, 0, 1, 0)
        drawn = drawn.transform(drawn.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        image[:] = drawn.reduce(4)
    return images


@functools.cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def noise(garments: Images, generator: np.random.Generator) -> Images:
    """Every pixel drawn for itself."""
    return generator.integers(0, 256, garments.shape, dtype=np.uint8)


def textures(garments: Images, generator: np.random.Generator) -> Images:
    """Stripes, checks and clouds of all directions and sizes, from edge to edge."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    images = np.empty_like(garments)
    for image in images:
        kind = generator.integers(3)
        if kind == 2:
            waves = gaussian_blur(generator.normal(size=(_SIDE, _SIDE)), generator.uniform(0.8, 3))
            waves = waves / np.abs(waves).max()
        else:
            angle, period = generator.uniform(0, np.pi), generator.uniform(3, 12)
            along = (columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period
            across = (rows * np.cos(angle) - columns * np.sin(angle)) * 2 * np.pi / period
            waves = np.sin(along) * (np.sin(across) if kind else 1)
        image[:] = 127.5 * (1 + waves)
    return images


def turned(garments: Images, generator: np.random.Generator) -> Images:
    """Garments that lie on their side, one way or the other."""
    ways = generator.choice((1, -1), len(garments))
    return np.stack([np.rot90(image, way) for image, way in zip(garments, ways, strict=True)])


def cut(garments: Images, generator: np.random.Generator) -> Images:
    """Garments cut into quarters, and these put together in another order."""
    half = _SIDE // 2
    quarters = garments.reshape(-1, 2, half, 2, half).swapaxes(2, 3).reshape(-1, 4, half, half)
    orders = generator.permuted(np.tile(np.arange(4), (len(garments), 1)), axis=1)
    # None stays whole: those that came out in order are turned round.
    orders[(orders == np.arange(4)).all(axis=1)] = (3, 2, 1, 0)
    mixed = np.take_along_axis(quarters, orders[:, :, None, None], axis=1)
    return np.ascontiguousarray(mixed.reshape(-1, 2, 2, half, half).swapaxes(2, 3).reshape(-1, _SIDE, _SIDE))


KINDS: Final[dict[str, Callable[[Images, np.random.Generator], Images]]] = {
    "digits": digits,
    "noise": noise,
    "textures": textures,
    "turned": turned,
    "cut": cut,
}
"""Each takes garments, uint8 [n, 28, 28], and gives as many images of its kind."""
