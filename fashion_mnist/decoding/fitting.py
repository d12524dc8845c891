"""From a decoded picture to an image of the network's size."""

import numpy as np
from PIL import Image

from fashion_mnist.classes import Geometry
from fashion_mnist.decoding.picture import Picture, Pixels


def fit(picture: Picture, geometry: Geometry) -> tuple[Pixels, list[str]]:
    """The picture as uint8 [height, width] of the network's size, and what was done to it.

    It is converted to grayscale (ITU-R BT.601), transparency is laid over black, and it is scaled by its longer side
    and centred on black, as the data set was. Source: Xiao et al. 2017, arXiv:1708.07747, section 2.
    """
    gray, notes = picture.pixels, list(picture.notes)
    if gray.ndim == 3:
        if (gray[:, :, 1:] != gray[:, :, :1]).any():
            notes.append("converted to grayscale")
        gray = np.asarray(Image.fromarray(gray).convert("L"))
    if picture.alpha is not None:
        notes.append("transparency laid over black")
        gray = (gray.astype(np.uint16) * picture.alpha // 255).astype(np.uint8)
    size = (geometry.height, geometry.width)
    if gray.shape == size:
        return gray, notes
    height, width = gray.shape
    scale = min(geometry.height / height, geometry.width / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    method = Image.Resampling.HAMMING if scale < 1 else Image.Resampling.BILINEAR
    resized = Image.fromarray(gray).resize((new_width, new_height), method)
    fitted = np.zeros(size, np.uint8)
    top, left = (geometry.height - new_height) // 2, (geometry.width - new_width) // 2
    fitted[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return fitted, [*notes, f"resized from {picture.width} x {picture.height}"]
