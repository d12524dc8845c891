"""What preparation does to one picture, step by step, as pictures for people to look at.

They are made beside preparation, and only where somebody wants to see them: nothing is computed from them.
"""

from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from fashion_mnist.preparation.fitting import Pixels, grayscale, resample
from fashion_mnist.preparation.garment import Garment

ORIGINAL: Final = "original"
INPUT: Final = "input"
"""The names of the first picture, as it was decoded, and of the last, as the network sees it."""

LONGER_SIDE: Final = 224
"""Of a picture that is shown, in pixels, at most."""


class Step(NamedTuple):
    """One picture: uint8 [h, w], or [h, w, 3 or 4] of red, green, blue and opacity."""

    name: str
    pixels: Pixels


class Steps:
    """The pictures of one image, in order; their names are those of the answer's `adjusted`."""

    def __init__(self) -> None:
        self.pictures: list[Step] = []

    def show(self, name: str, pixels: Pixels, alpha: Pixels | None = None) -> None:
        """Keep a picture, uint8 [h, w] or [h, w, 3], with its opacity, uint8 [h, w], where it has one."""
        if alpha is not None:
            colors = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
            pixels = np.dstack([colors, alpha])
        self.pictures.append(Step(name, _shrunk(pixels)))

    def show_garment(self, pixels: Pixels, garment: Garment, names: list[str], contrast: float) -> None:
        """Keep the pictures of a garment cut out of `pixels`: a picture for each of `names`, what was done to it.

        `contrast` is the difference from the ground that becomes white.
        """
        box, values = garment.box, garment.values
        found = resample((values > 0).astype(np.float32), box.height, box.width)[:, :, None]
        cut = np.zeros_like(np.atleast_3d(pixels))
        within = np.s_[box.top : box.bottom, box.left : box.right]
        cut[within] = np.atleast_3d(pixels)[within] * found + np.float32(0.5)
        if pixels.ndim == 2:
            cut = cut[:, :, 0]
        picture = cut
        for name in names:
            if name.startswith("cropped"):
                picture = np.ascontiguousarray(cut[within])
            elif name == "converted to grayscale":
                picture = grayscale(picture)
            elif name == "inverted":
                picture = np.clip(values, 0, 255).astype(np.uint8)
            elif name == "contrast stretched":
                picture = np.clip(values * np.float32(255 / contrast), 0, 255).astype(np.uint8)
            self.show(name, picture)


def _shrunk(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    if max(height, width) <= LONGER_SIDE:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return np.asarray(image)
