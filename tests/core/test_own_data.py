"""Data sets of one's own: each form gives the same images, labels and names, and a faulty one says what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashion_mnist.data import dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.errors import DatasetError
from tests.support.bodies import idx

NAMES = ("circle", "square", "star")
COUNT = 30


def images(channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, channels, 20, 24), np.uint8)


LABELS = np.arange(COUNT) % len(NAMES)


def as_npz(folder: Path, pixels: np.ndarray, **more: Any) -> Path:
    path = folder / "My shapes.npz"
    np.savez(path, **{"images": pixels, "labels": LABELS, "classes": NAMES, **more})
    return path


def as_folders(folder: Path, pixels: np.ndarray) -> Path:
    root = folder / "My shapes"
    for place, (image, label) in enumerate(zip(pixels, LABELS, strict=True)):
        path = root / NAMES[label] / f"{place:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(image))
    return root


def as_idx(folder: Path, pixels: np.ndarray) -> Path:
    root = folder / "My shapes"
    root.mkdir()
    (root / f"train-images-idx{pixels.ndim}-ubyte").write_bytes(idx(pixels))
    (root / "train-labels-idx1-ubyte").write_bytes(idx(LABELS.astype(np.uint8)))
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


def rows(split: Any) -> list[tuple[bytes, int]]:
    return sorted((image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("write", [as_npz, as_folders, as_idx])
def test_each_form_gives_the_same(write: Callable[[Path, np.ndarray], Path], channels: int, tmp_path: Path) -> None:
    pixels = images(channels)
    path = write(tmp_path, pixels)
    loaded, again = dataset.load(path), dataset.load(path)
    assert rows(loaded.train) == rows(again.train)
    assert rows(loaded.test) == rows(again.test), "the same images are split off every time"
    assert sorted(rows(loaded.train) + rows(loaded.test)) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(pixels, LABELS, strict=True)
    )
    assert loaded.train.images.shape[1:] == (channels, 20, 24)
    assert np.bincount(loaded.test.labels).tolist() == [2, 2, 2]
    assert (loaded.task.name, loaded.task.title, loaded.task.classes) == ("my_shapes", "My shapes", NAMES)
    assert loaded.task.geometry == (channels, 20, 24)


def test_a_test_set_that_is_there_is_taken(tmp_path: Path) -> None:
    other = images(seed=1)
    loaded = dataset.load(as_npz(tmp_path, images(), test_images=other, test_labels=LABELS))
    assert len(loaded.train.images) == COUNT
    np.testing.assert_array_equal(loaded.test.images, other)


def test_channels_may_be_last_or_none(tmp_path: Path) -> None:
    pixels = images()
    last = dataset.load(as_npz(tmp_path, pixels.transpose(0, 2, 3, 1)))
    assert rows(last.train) == rows(dataset.load(as_npz(tmp_path, pixels)).train)
    assert dataset.load(as_npz(tmp_path, pixels[:, 0])).task.geometry == (1, 20, 24)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": images().astype(np.float32)}, "uint8"),
        ({"images": images()[:-1]}, "29 images and labels"),
        ({"images": images()[:0], "labels": LABELS[:0]}, "0 images"),
        ({"images": images().reshape(COUNT, -1)}, "shape"),
        ({"images": np.zeros((COUNT, 4, 20, 24), np.uint8)}, "1 or 3 channels"),
        ({"labels": LABELS + 0.5}, "whole numbers"),
        ({"labels": LABELS - 1}, "whole numbers"),
        ({"classes": NAMES[:2]}, "labels up to 2"),
        ({"classes": (*NAMES, "none")}, "'none'"),
        ({"classes": ("a", "a", "b")}, "'a'"),
        ({"labels": np.array([0] * 28 + [1, 2])}, "two are needed"),
        ({"test_images": images()[:, :, :10], "test_labels": LABELS}, "make them alike"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_faulty_npz_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=re.escape(reason)):
        dataset.load(as_npz(tmp_path, images(), **change))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "pickled.npz"
    np.savez(path, images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1, int))
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.load(path)


def test_faulty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        dataset.load(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="0 folders of classes"):
        dataset.load(tmp_path)
    root = as_folders(tmp_path, images())
    odd = root / NAMES[0] / "odd.png"
    Image.new("RGB", (25, 20)).save(odd)
    with pytest.raises(DatasetError, match=r"odd.png has 25 x 20 pixels"):
        dataset.load(root)
    odd.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"odd.png cannot be read"):
        dataset.load(root)
