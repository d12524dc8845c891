"""Image arrays as files: .npy and IDX, read from bytes that nobody vouches for."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import GEOMETRY, IMAGE_BYTES
from fashion_mnist.dataset import read_idx
from fashion_mnist.errors import BadArray

_ROWS: Final = (GEOMETRY.height, GEOMETRY.width)
_FORMS: Final = "send uint8 of shape [28, 28], [n, 28, 28], [n, 1, 28, 28] or [n, 784]"


def npy_images(content: bytes | bytearray | memoryview) -> NDArray[np.uint8]:
    """The images of a .npy file as uint8 [n, 28, 28].

    The header is read first and its shape compared with the bytes that are there, so nothing is allocated on a
    stranger's word; pickled objects are refused, never loaded. Raises BadArray.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, fortran_order, dtype = read_header(file)
    except KeyError:
        raise BadArray(f".npy of an unknown version; save it with numpy.save and {_FORMS}") from None
    except Exception:
        # NumPy evaluates the header as a Python literal: damaged ones fail in as many ways as there are.
        raise BadArray(f"the .npy header is damaged or cut short; save it with numpy.save and {_FORMS}") from None
    if dtype.hasobject:
        raise BadArray(f"pickled objects are never loaded; {_FORMS}")
    if dtype != np.uint8:
        raise BadArray(f"the array is of {dtype}; {_FORMS}")
    data = memoryview(content)[file.tell() :]
    images = _count(shape)
    if len(data) != images * IMAGE_BYTES:
        raise BadArray(f"the .npy says {_shown(shape)} and holds {len(data):,} bytes of data: send the whole file")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran_order else "C").reshape(images, *_ROWS)


def idx_images(content: bytes | bytearray | memoryview) -> NDArray[np.uint8]:
    """The images of an IDX file (the data set's own format) as uint8 [n, 28, 28]. Raises BadArray."""
    try:
        array = read_idx(content)
    except ValueError as error:
        raise BadArray(f"the IDX file cannot be read ({error}): send the whole file of images") from None
    return array.reshape(_count(array.shape), *_ROWS)


def _count(shape: tuple[int, ...]) -> int:
    """How many images an array of this shape holds. Raises BadArray for a shape that is none of the forms."""
    if shape == _ROWS:
        return 1
    if len(shape) > 1 and shape[0] > 0 and shape[1:] in (_ROWS, tuple(GEOMETRY), (IMAGE_BYTES,)):
        return shape[0]
    raise BadArray(f"the array's shape is {_shown(shape)}; {_FORMS}")


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape))[:80]
