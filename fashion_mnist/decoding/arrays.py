"""Image arrays as files: .npy and IDX, read from untrusted bytes."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.data.idx import read_idx
from fashion_mnist.decoding.decoded import Bytes
from fashion_mnist.errors import BadArray
from fashion_mnist.task import Geometry

_MAX_DIGITS: Final = 12


def npy_images(content: Bytes, geometry: Geometry) -> NDArray[np.uint8]:
    """The images of a .npy file as uint8 [n, channels, height, width].

    The header's shape is compared with the length of the data before anything is allocated; pickled objects are
    refused, never loaded. Raises BadArray.
    """
    forms = _forms(geometry)
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, fortran_order, dtype = read_header(file)
    except KeyError:
        raise BadArray(f"the .npy version is unknown; save it with numpy.save and {forms}") from None
    except Exception:
        # NumPy evaluates the header as a Python literal, which can raise anything.
        raise BadArray(f"the .npy header is damaged or truncated; save it with numpy.save and {forms}") from None
    # NumPy's own check accepts True as 1, and numbers that Python refuses to print.
    if any(type(length) is not int or not 0 <= length < 10**_MAX_DIGITS for length in shape):
        raise BadArray(f"the .npy header's shape has an invalid length; {forms}")
    if dtype.hasobject:
        raise BadArray(f"pickled objects are never loaded; {forms}")
    if dtype != np.uint8:
        raise BadArray(f"the array's type is {str(dtype)[:80]}; {forms}")
    data = memoryview(content)[file.tell() :]
    images = _count(shape, geometry)
    if len(data) != images * geometry.image_bytes:
        raise BadArray(f"the .npy has {len(data):,} bytes for the shape {_shown(shape)}: send the whole file")
    array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran_order else "C")
    return array.reshape(images, *geometry)


def idx_images(content: Bytes, geometry: Geometry) -> NDArray[np.uint8]:
    """The images of an IDX file (the data set's own format) as uint8 [n, channels, height, width].

    Raises BadArray.
    """
    try:
        array = read_idx(content)
    except ValueError as error:
        raise BadArray(f"the IDX file cannot be read ({error}): send the whole file of images") from None
    return array.reshape(_count(array.shape, geometry), *geometry)


def _forms(geometry: Geometry) -> str:
    sides = [", ".join(map(str, shape)) for shape in _images_shapes(geometry)]
    several = ", ".join(f"[n, {each}]" for each in sides)
    return f"send uint8 of shape [{sides[0]}], {several} or [n, {geometry.image_bytes}]"


def _images_shapes(geometry: Geometry) -> list[tuple[int, ...]]:
    """The shapes that one image may have: without its channel, too, where there is one alone."""
    return [tuple(geometry)[1:], tuple(geometry)] if geometry.channels == 1 else [tuple(geometry)]


def _count(shape: tuple[int, ...], geometry: Geometry) -> int:
    """The number of images of an array of this shape. Raises BadArray for an unsupported shape."""
    shapes = _images_shapes(geometry)
    if shape == shapes[0]:
        return 1
    if len(shape) > 1 and shape[0] > 0 and shape[1:] in (*shapes, (geometry.image_bytes,)):
        return shape[0]
    raise BadArray(f"the array's shape is {_shown(shape)}; {_forms(geometry)}")


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape))[:80]
