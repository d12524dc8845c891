"""The data set: Fashion-MNIST and nothing else, whatever its packaging."""

import gzip
import hashlib
import shutil
import struct
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_mnist.classes import CLASSES
from fashion_mnist.data import dataset as fashion_mnist_dataset
from fashion_mnist.data.dataset import CHECKSUMS, find, load
from fashion_mnist.data.idx import read_idx
from fashion_mnist.data.splits import Dataset
from fashion_mnist.data.torchvision import import_torchvision
from fashion_mnist.errors import DatasetError

NAMES = list(CHECKSUMS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The four files, as links to the real ones."""
    for name in NAMES:
        (tmp_path / f"{name}.gz").symlink_to(find() / f"{name}.gz")
    return tmp_path


def test_it_is_the_whole_data_set(dataset: Dataset) -> None:
    assert dataset.train.images.shape == (60_000, 1, 28, 28)
    assert dataset.test.images.shape == (10_000, 1, 28, 28)
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == split.labels.dtype == np.uint8
        assert split.images.flags.c_contiguous
        assert np.bincount(split.labels).tolist() == [len(split.labels) // len(CLASSES)] * len(CLASSES)


def test_files_and_classes_are_torchvisions(dataset: Dataset, folder: Path) -> None:
    import_torchvision()
    from torchvision.datasets import FashionMNIST

    assert tuple(FashionMNIST.classes) == CLASSES
    assert [name.removesuffix(".gz") for name, _ in FashionMNIST.resources] == NAMES
    # torchvision's checksums are of its own gzip files; ours are of what is in them.
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    for train, split in ((True, dataset.train), (False, dataset.test)):
        theirs = FashionMNIST(str(folder), train=train)
        assert np.array_equal(theirs.data.numpy(), split.images[:, 0])
        assert np.array_equal(theirs.targets.numpy(), split.labels)


def test_plain_files_are_as_good_as_gzipped_ones(dataset: Dataset, folder: Path) -> None:
    for name in NAMES:
        packed = folder / f"{name}.gz"
        (folder / name).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert np.array_equal(load(folder).test.images, dataset.test.images)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / f"{name}.gz").unlink()
    with pytest.raises(DatasetError, match=f"{name}.*dataset-fashion-mnist"):
        load(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    packed = folder / f"{name}.gz"
    _replace(packed, packed.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=rf"{name}\.gz is truncated"):
        load(folder)


def test_swapped_files_are_told_apart(folder: Path) -> None:
    images, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"
    content = images.read_bytes(), labels.read_bytes()
    _replace(images, content[1])
    _replace(labels, content[0])
    with pytest.raises(DatasetError, match="t10k-images-idx3-ubyte.gz holds t10k-labels-idx1-ubyte"):
        load(folder)


def test_one_changed_pixel_is_noticed(folder: Path) -> None:
    packed = folder / "t10k-images-idx3-ubyte.gz"
    content = bytearray(gzip.decompress(packed.read_bytes()))
    content[1000] ^= 1
    _replace(packed, gzip.compress(bytes(content), 1))
    with pytest.raises(DatasetError, match="t10k-images-idx3-ubyte.gz is not"):
        load(folder)


def test_a_download_that_fails_says_what_else_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    from torchvision.datasets import FashionMNIST

    # An address on this machine that nobody listens on.
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(fashion_mnist_dataset, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DatasetError, match="dataset-fashion-mnist"):
        load()


def test_torchvisions_download_is_used_where_there_is_no_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    """A web server of the test's own stands for the download site."""
    import_torchvision()
    from torchvision.datasets import FashionMNIST

    site = tmp_path / "site"
    site.mkdir()
    resources = []
    for name in NAMES:
        shutil.copyfile(folder / f"{name}.gz", site / f"{name}.gz")
        resources.append((f"{name}.gz", hashlib.md5((site / f"{name}.gz").read_bytes()).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    monkeypatch.setattr(fashion_mnist_dataset, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            loaded = load()
        finally:
            server.shutdown()
            thread.join()
    assert np.array_equal(loaded.test.images, dataset.test.images)


def test_loading_does_not_import_torch() -> None:
    modules = ("data.dataset", "decoding.bodies", "predictions", "engines.onnx", "client.http")
    program = f"import sys, {', '.join(f'fashion_mnist.{name}' for name in modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"


@given(st.binary(max_size=100) | st.binary(max_size=50).map(lambda tail: b"\0\0\x08\x03" + tail))
def test_any_bytes_are_an_array_or_a_reason(content: bytes) -> None:
    try:
        array = read_idx(content)
    except ValueError as error:
        assert str(error)
    else:
        assert array.dtype == np.uint8


def test_sizes_that_overflow_are_a_reason() -> None:
    with pytest.raises(ValueError, match="promises 79,228,162,458,924,105,385,300,197,375 bytes and 0"):
        read_idx(struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
