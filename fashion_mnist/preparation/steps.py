"""Pictures of each step of preparation, for people.

They are drawn only on request; preparation does not use them.
"""

from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from fashion_mnist.preparation.fitting import Pixels, grayscale, resample
from fashion_mnist.preparation.garment import Garment

ORIGINAL: Final = "original"
INPUT: Final = "input"
"""The names of the first picture, as decoded, and of the last, the network's input."""

LONGER_SIDE: Final = 224
"""The maximum longer side of a shown picture, in pixels."""


class Step(NamedTuple):
    """One picture: uint8 [h, w], or [h, w, 3 or 4], RGB or RGBA."""

    name: str
    pixels: Pixels


class Steps:
    """The pictures of one image, in order, with the names of the answer's `adjusted`."""

    def __init__(self) -> None:
        self.pictures: list[Step] = []

    def show(self, name: str, pixels: Pixels, alpha: Pixels | None = None) -> None:
        """Keep a picture, uint8 [h, w] or [h, w, 3], with its opacity, uint8 [h, w], if it has one."""
        if alpha is not None:
            colors = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
            pixels = np.dstack([colors, alpha])
        self.pictures.append(Step(name, _shrunk(pixels)))

    def show_garment(self, pixels: Pixels, garment: Garment, names: list[str], contrast: float) -> None:
        """Keep a picture for each of `names`, the changes made to a garment in `pixels`.

        `contrast` is the difference from the background that becomes white.
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
