"""What all tests share: the real data set, the released model, and one real TorchServe that serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_mnist import dataset as fashion_mnist_dataset
from fashion_mnist.dataset import Dataset
from fashion_mnist.limits import Limits
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from tests.serving.server import RunningServer, running_server


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """The real Fashion-MNIST: Debian's package, or torchvision's download."""
    return fashion_mnist_dataset.load()


@pytest.fixture(scope="session")
def model_store() -> Path:
    """The released model."""
    return model_store_path(Settings.from_environment())


@pytest.fixture(scope="session")
def torchserve() -> Iterator[RunningServer]:
    """The real TorchServe with the released model, on free ports."""
    with running_server() as server:
        yield server


@pytest.fixture
def limits() -> Limits:
    """The default limits."""
    return Limits.from_settings(Settings())
