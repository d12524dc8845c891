"""What all tests share: the real data set, the released model, and servers that serve it, each started once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fashion_mnist.data import dataset as fashion_mnist_dataset
from fashion_mnist.data.splits import Dataset
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.torchserve import RunningServer, running_server

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


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


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """`fashion-mnist serve --engine embedded`, ready."""
    yield from _ready(tmp_path_factory, "embedded")


@pytest.fixture(scope="session")
def in_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """`fashion-mnist serve`: the gateway in front of the real TorchServe, ready."""
    yield from _ready(tmp_path_factory, "torchserve")


def _ready(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[ServeCommand]:
    with serve_command(tmp_path_factory.mktemp(engine), "--engine", engine) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


@pytest.fixture
def limits() -> Limits:
    """The default limits."""
    return Limits.from_settings(Settings())
