"""Images that show no garment as the data set does: drawn here, to see whether a model knows them for such."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import GEOMETRY

Images = NDArray[np.uint8]

_SIDE: Final = GEOMETRY.height
_FONTS: Final = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def digits(garments: Images, generator: np.random.Generator) -> Images:
    """Digits like MNIST's: white on black, some 20 pixels high, slanted, of several hands."""
    images = np.zeros((len(garments), 4 * _SIDE, 4 * _SIDE), np.uint8)
    for image in images:
        font, text = int(generator.choice(_FONTS)), str(generator.integers(10))
        thickness, height = int(generator.integers(7, 14)), int(generator.integers(68, 84))
        (width, _), _ = cv2.getTextSize(
            text, font, scale := cv2.getFontScaleFromHeight(font, height, thickness), thickness
        )
        place = ((4 * _SIDE - width) // 2, (4 * _SIDE + height) // 2)
        cv2.putText(image, text, place, font, scale, 255, thickness, cv2.LINE_AA)
        slant = generator.uniform(-0.3, 0.3)
        matrix = np.array([[1, slant, -slant * 2 * _SIDE], [0, 1, 0]])
        image[:] = cv2.warpAffine(image, matrix, image.shape)
    return np.stack([cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in images])


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
            waves = cv2.GaussianBlur(generator.normal(size=(_SIDE, _SIDE)), (0, 0), generator.uniform(0.8, 3))
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
