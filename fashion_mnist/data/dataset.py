"""The data set: Fashion-MNIST's four IDX files, verified, as uint8 arrays."""

import hashlib
import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.data import own
from fashion_mnist.data.idx import read_idx, unpacked
from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import DatasetError

DEBIAN: Final = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""

CHECKSUMS: Final = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""The SHA-256 of each file's decompressed content, because packages compress differently."""

_ORIGIN: Final = {
    "source": "https://github.com/zalandoresearch/fashion-mnist",
    "licence": "MIT",
    "sha256_of_decompressed_files": CHECKSUMS,
}


def load(folder: "str | Path" = "") -> Dataset:
    """Load and verify the data set from `folder`, else from Debian's package, else from torchvision's download.

    A folder of other data, or an .npz, is read as `fashion_mnist.data.own` says; of IDX files it is told by its
    classes.txt. Raises DatasetError that names the file that is missing, truncated, swapped or wrong.
    """
    folder = Path(folder) if folder else find()
    if _is_own(folder):
        return own.load(folder)
    return Dataset(_split(folder, "train"), _split(folder, "t10k"), origin=_ORIGIN)


def _is_own(folder: Path) -> bool:
    """Whether these are other data than Fashion-MNIST."""
    return (folder / own.CLASSES).exists() or not any(_path(folder, name) for name in CHECKSUMS)


def load_test(folder: Path) -> Split:
    """Load and verify the test images alone. Raises DatasetError."""
    if _is_own(folder):
        return own.load(folder).test
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
    content = unpacked(path)
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != CHECKSUMS[name]:
        swapped = next((other for other, known in CHECKSUMS.items() if known == checksum), None)
        reason = f"holds {swapped}" if swapped else "is not Fashion-MNIST's file of that name, or is truncated"
        raise DatasetError(
            f"{path} {reason} (sha256 of its decompressed content: {checksum}): replace it, or "
            f"write the class names of other data into {own.CLASSES} beside it"
        )
    return read_idx(content)
