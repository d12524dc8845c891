"""Images as files, for whoever sends, stores or shows them."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_image(image: NDArray[np.uint8] | NDArray[np.uint16], format: str = "PNG", **options: Any) -> bytes:
    """An image, [height, width] or [height, width, 3 or 4], as a file of one of Pillow's formats, by its options."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()
