"""One export of the released weights, made once, and copies of it for tests that spoil something."""

import shutil
from pathlib import Path

import pytest

from export.release import Release, release
from fashion_mnist.data.splits import Dataset


@pytest.fixture(scope="session")
def exported(model_store: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The released weights, exported anew into a folder of its own; not to be changed."""
    return release(model_store / "weights.pt", tmp_path_factory.mktemp("exported"), dataset, version="1.0")


@pytest.fixture
def store(exported: Release, tmp_path: Path) -> Path:
    """A copy of the exported model store that a test may spoil."""
    return Path(shutil.copytree(exported.folder, tmp_path / "store"))
