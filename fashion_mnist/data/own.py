"""A data set of one's own: IDX files, a folder of images, or an .npz; and the task that it makes."""

import re
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_mnist.data.idx import read_idx_file
from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import DatasetError, UsageError
from fashion_mnist.task import CHANNELS, Geometry, HealthCheck, Task, sample_file

CLASSES: Final = "classes.txt"
"""The file of class names, one a line, in the order of the labels."""

TEST_SHARE: Final = 0.2
"""Of the images of each class, where there is no test set."""

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_TRAIN: Final = "train"
_TEST: Final = ("test", "t10k", "val", "valid", "validation")
_SPLIT_SEED: Final = 0
_MOST_CLASSES: Final = 2**16
_GRAY: Final = frozenset({"1", "L", "LA", "I;16"})

_FORMS: Final = (
    "name a folder of IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte and, for the test, t10k-...), a "
    "folder that has a folder of images for each class, or an .npz with images and labels"
)


class _Found(NamedTuple):
    """Images, uint8 [n, channels, height, width], and labels [n], as they were found."""

    images: NDArray[np.uint8]
    labels: NDArray[Any]


class _Content(NamedTuple):
    train: _Found
    test: _Found | None
    names: tuple[str, ...] | None
    """The class names, where they are said."""


def load(path: Path) -> Dataset:
    """The data set at `path`, after whose name its task is called.

    Without a test set a fifth of each class is split off, the same images every time. Raises DatasetError.
    """
    if path.suffix == ".npz":
        content = _read_npz(path)
    elif not path.is_dir():
        raise DatasetError(f"{path} does not exist: {_FORMS}")
    elif _idx_path(path, _TRAIN, "images") is not None:
        content = _read_idx(path)
    else:
        content = _read_folders(path)
    names = _checked_names(path, content)
    train, test = content.train, content.test or None
    if test is None:
        train, test = _split_off(path, train)
    kind = np.uint8 if len(names) <= 2**8 else np.uint16
    try:
        task = Task(
            name=_name(path),
            title=path.resolve().stem,
            classes=names,
            geometry=Geometry(*train.images.shape[1:]),
            health_check=HealthCheck(sample_file(names[-1]), names[-1]),
        )
    except UsageError as error:
        raise DatasetError(f"{path}: {error.message}") from None
    train_split, test_split = (
        Split(np.ascontiguousarray(found.images), found.labels.astype(kind)) for found in (train, test)
    )
    return Dataset(train_split, test_split, task)


def _checked_names(path: Path, content: _Content) -> tuple[str, ...]:
    """The class names, after checking that images and labels fit them and each other. Raises DatasetError."""
    train, test, names = content
    for images, labels in (train, test) if test else (train,):
        if labels.ndim != 1 or len(images) != len(labels) or not len(images):
            raise DatasetError(f"{path} has {len(images):,} images and labels of shape {list(labels.shape)}: one each")
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= _MOST_CLASSES:
            raise DatasetError(f"the labels in {path} are not whole numbers from 0: number the classes so")
    if test is not None and train.images.shape[1:] != test.images.shape[1:]:
        shapes = [str(Geometry(*found.images.shape[1:])) for found in (train, test)]
        raise DatasetError(f"{path} has images of {shapes[0]} to train on and of {shapes[1]} to test: make them alike")
    highest = int(max(found.labels.max() for found in (train, test) if found is not None))
    names = names or tuple(map(str, range(highest + 1)))
    if highest >= len(names):
        raise DatasetError(f"{path} has {len(names)} class names, and labels up to {highest}: name every class")
    if missing := sorted(set(range(len(names))) - set(train.labels.tolist())):
        raise DatasetError(f"no image to train on in {path} is of {names[missing[0]]!r}: add some, or leave it out")
    return names


def _name(path: Path) -> str:
    """A task's name after a path's, as it may stand in URLs."""
    return re.sub(r"[^a-z0-9_-]+", "_", path.resolve().stem.lower()).strip("_-")[:64] or "own_data"


def _split_off(path: Path, found: _Found) -> tuple[_Found, _Found]:
    """The images without a share of each class, and that share."""
    generator = np.random.default_rng(_SPLIT_SEED)
    is_test = np.zeros(len(found.labels), np.bool_)
    for label in np.unique(found.labels):
        places = generator.permutation(np.flatnonzero(found.labels == label))
        if len(places) < 2:
            raise DatasetError(f"{path} has one image of class {label}: two are needed, one of them for the test")
        is_test[places[: max(1, round(TEST_SHARE * len(places)))]] = True
    return (
        _Found(found.images[~is_test], found.labels[~is_test]),
        _Found(found.images[is_test], found.labels[is_test]),
    )


def _read_names(folder: Path) -> tuple[str, ...] | None:
    path = folder / CLASSES
    if not path.exists():
        return None
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): write a class name on each line, in UTF-8") from None


def _idx_path(folder: Path, split: str, what: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"{split}-{what}*ubyte*"))), None)


def _read_idx(folder: Path) -> _Content:
    def read(split: str) -> _Found | None:
        paths = [_idx_path(folder, split, what) for what in ("images", "labels")]
        if paths[0] is None and split != _TRAIN:
            return None
        if paths[0] is None or paths[1] is None:
            raise DatasetError(f"{folder} has images or labels of {split} alone: {_FORMS}")
        images, labels = read_idx_file(paths[0]), read_idx_file(paths[1])
        return _Found(_with_channels(folder, images), labels)

    train = read(_TRAIN)
    assert train is not None
    return _Content(train, next(filter(None, map(read, _TEST)), None), _read_names(folder))


def _read_npz(path: Path) -> _Content:
    """`images` and `labels`; `test_images` and `test_labels`, `classes` if they are there. Pickles are never loaded."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}): save it with numpy.savez(images=..., labels=...)"
        ) from None
    if missing := {"images", "labels"} - arrays.keys():
        raise DatasetError(f"{path} has no {' and no '.join(sorted(missing))}: save it with images and labels")
    train = _Found(_with_channels(path, arrays["images"]), arrays["labels"])
    test = None
    if "test_images" in arrays:
        labels = arrays.get("test_labels", np.empty(0, np.uint8))
        test = _Found(_with_channels(path, arrays["test_images"]), labels)
    return _Content(train, test, tuple(map(str, arrays["classes"].ravel())) if "classes" in arrays else None)


def _with_channels(path: Path, images: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 [n, channels, height, width] of images that may have their channels last, or, grayscale, none."""
    if images.dtype != np.uint8:
        raise DatasetError(f"the images in {path} are {images.dtype}: store pixels as uint8, from 0 to 255")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in CHANNELS and images.shape[3] in CHANNELS:
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in CHANNELS:
        raise DatasetError(
            f"the images in {path} are of shape {list(images.shape)}: [n, height, width], [n, channels, height, width] "
            "or [n, height, width, channels] with 1 or 3 channels is needed"
        )
    return images


def _read_folders(folder: Path) -> _Content:
    """torchvision's ImageFolder: a folder for each class; within train/ and test/ where there are such."""
    roots = {split: folder / split for split in (_TRAIN, *_TEST) if (folder / split).is_dir()}
    root = roots.pop(_TRAIN, folder)
    names = _read_names(folder) or tuple(sorted(each.name for each in root.iterdir() if each.is_dir()))
    if len(names) < 2:
        raise DatasetError(f"{folder} has {len(names)} folders of classes: {_FORMS}")
    train = _files(root, names)
    test = _files(next(iter(roots.values())), names) if root != folder and roots else None
    files = [path for path, _ in (*train, *(test or ()))]
    mode = "L" if all(_mode(path) in _GRAY for path in files) else "RGB"
    size = _open(files[0], mode).shape
    return _Content(_images(train, mode, size), _images(test, mode, size) if test else None, names)


def _files(root: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The image files of each class, with its label."""
    if unknown := sorted({each.name for each in root.iterdir() if each.is_dir()} - set(names)):
        raise DatasetError(f"{root / unknown[0]} is of no class: add it to {CLASSES}, or remove it")
    found = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise DatasetError(f"{root} has no images in its folders: {', '.join(sorted(SUFFIXES))} are read")
    return found


def _images(files: list[tuple[Path, int]], mode: str, size: tuple[int, ...]) -> _Found:
    images = np.empty((len(files), *size), np.uint8)
    for place, (path, _) in enumerate(files):
        image = _open(path, mode)
        if image.shape != size:
            sizes = [f"{shape[2]} x {shape[1]}" for shape in (image.shape, size)]
            raise DatasetError(f"{path} has {sizes[0]} pixels, and the first image has {sizes[1]}: make all alike")
        images[place] = image
    return _Found(images, np.array([label for _, label in files]))


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return image.mode
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): replace or remove it") from None


def _open(path: Path, mode: str) -> NDArray[np.uint8]:
    """uint8 [channels, height, width]."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): replace or remove it") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
