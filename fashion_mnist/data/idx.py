"""IDX, the format of MNIST's files: read from bytes that nobody vouches for. Source: yann.lecun.com/exdb/mnist."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import DatasetError


def read_idx(content: bytes | bytearray | memoryview) -> NDArray[np.uint8]:
    """An IDX file's array, uint8 of rank 1, 3 or 4, as a view of `content`.

    The sizes in the header are compared with the bytes that are there: nothing is allocated on a stranger's word.
    Raises ValueError with the reason.
    """
    if len(content) < 4:
        raise ValueError("it is shorter than an IDX header")
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != 8 or rank not in (1, 3, 4):
        raise ValueError("it does not begin as IDX of unsigned bytes with one, three or four dimensions does")
    if len(content) < 4 + 4 * rank:
        raise ValueError("it is shorter than its header")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    promised, present = int(np.prod(shape, dtype=object)), len(content) - 4 - 4 * rank
    if promised != present:
        raise ValueError(f"its header promises {promised:,} bytes and {present:,} follow")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_idx_file(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file, gzipped or not. Raises DatasetError."""
    try:
        return read_idx(unpacked(path))
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read ({error}): replace it") from None


def unpacked(path: Path) -> bytes:
    """A file's content, unpacked where it ends with .gz. Raises DatasetError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is truncated or damaged ({error}): replace it") from None
