"""The data set: Fashion-MNIST's four IDX files, verified, as uint8 arrays."""

import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import DatasetError
from fashion_mnist.task import FASHION_MNIST, Task

DEBIAN: Final = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""

CHECKSUMS: Final = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""The SHA-256 of each file's decompressed content, because packages compress differently."""


class Split(NamedTuple):
    """Images, uint8 [n, channels, height, width], and their labels, uint8 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Dataset(NamedTuple):
    """Training and test images, and their task."""

    train: Split
    test: Split
    task: Task = FASHION_MNIST


def load(folder: "str | Path" = "") -> Dataset:
    """Load and verify the data set from `folder`, else from Debian's package, else from torchvision's download.

    Raises DatasetError, which names the file that is missing, truncated, swapped or wrong.
    """
    folder = Path(folder) if folder else find()
    return Dataset(_split(folder, "train"), _split(folder, "t10k"))


def load_test(folder: Path) -> Split:
    """Load and verify only the test images. Raises DatasetError."""
    return _split(folder, "t10k")


def find() -> Path:
    """The folder of Debian's package if it is installed, else the cache, into which torchvision downloads if needed."""
    if (folder := find_installed()) is not None:
        return folder
    # Imported here: torchvision brings torch along, and only a download needs it.
    from fashion_mnist.data.torchvision import download

    download(cache_folder())
    return _raw()


def find_installed() -> Path | None:
    """The folder of Debian's package, or the cache if it has all files; None if a download would be needed."""
    if DEBIAN.is_dir():
        return DEBIAN
    return _raw() if all(_path(_raw(), name) for name in CHECKSUMS) else None


def cache_folder() -> Path:
    """This project's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fashion-mnist"


def read_idx(content: bytes | bytearray | memoryview) -> NDArray[np.uint8]:
    """An IDX file's array, uint8 of rank 1, 3 or 4, as a view of `content`. Source: yann.lecun.com/exdb/mnist.

    The sizes in the header are compared with the length before anything is allocated.
    Raises ValueError with the reason.
    """
    if len(content) < 4:
        raise ValueError("it is shorter than an IDX header")
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != 8 or rank not in (1, 3, 4):
        raise ValueError("it has no header of IDX with unsigned bytes and one, three or four dimensions")
    if len(content) < 4 + 4 * rank:
        raise ValueError("it is shorter than its header")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    promised, present = int(np.prod(shape, dtype=object)), len(content) - 4 - 4 * rank
    if promised != present:
        raise ValueError(f"its header requires {promised:,} bytes, but {present:,} follow")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _raw() -> Path:
    return cache_folder() / "FashionMNIST" / "raw"


def _split(folder: Path, prefix: str) -> Split:
    images = _read(folder, f"{prefix}-images-idx3-ubyte")
    return Split(np.ascontiguousarray(images[:, None]), _read(folder, f"{prefix}-labels-idx1-ubyte"))


def _path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    path = _path(folder, name)
    if path is None:
        raise DatasetError(
            f"{folder / name} (or {name}.gz) does not exist: `apt-get install dataset-fashion-mnist`, or name the "
            "folder that holds the four files with --data or FASHION_MNIST_DATA"
        )
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is truncated or damaged ({error}): replace it") from None
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != CHECKSUMS[name]:
        swapped = next((other for other, known in CHECKSUMS.items() if known == checksum), None)
        reason = f"holds {swapped}" if swapped else "is not Fashion-MNIST's file of that name, or is truncated"
        raise DatasetError(f"{path} {reason} (sha256 of its decompressed content: {checksum}): replace it")
    return read_idx(content)
