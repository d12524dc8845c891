"""Encodes images as files."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_image(image: NDArray[np.uint8] | NDArray[np.uint16], format: str = "PNG", **options: Any) -> bytes:
    """A network's image, [channels, height, width], as a file in one of Pillow's formats, with its options.

    Images with one channel may also be [height, width].
    """
    return encode_picture(as_picture(image), format, **options)


def as_picture(image: NDArray[Any]) -> NDArray[Any]:
    """A network's image, [channels, height, width], as [height, width] or [height, width, 3]; others are unchanged."""
    if image.ndim != 3:
        return image
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def encode_picture(picture: NDArray[np.uint8] | NDArray[np.uint16], format: str = "PNG", **options: Any) -> bytes:
    """A picture, [height, width] or [height, width, 3 or 4], as a file in one of Pillow's formats, with its options."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format, **options)
    return file.getvalue()
