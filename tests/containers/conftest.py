"""What the container tests share: an engine, and the images, each built once, when it is first asked for."""

import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import open_engine
from tests.containers import building
from tests.containers.engine import Engine, an_engine, ensure_base

HERE = Path(__file__).parent

BuildImage = Callable[[str], str]
"""Takes a target of deploy/Dockerfile and gives the tag of its image."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here: `make test` leaves it out, `make test-containers` runs it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.containers)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine with the base image: the one that runs, else one that ends with the tests."""
    # `make test-containers` ends what takes too long by SIGTERM, upon which Python would leave everything behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with an_engine() as found:
            ensure_base(found)
            yield found
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> BuildImage:
    """Builds an image, where it has not been built yet."""
    context = building.context(tmp_path_factory.mktemp("context"))
    return cache(lambda target: building.build(engine, target, context))


@pytest.fixture(scope="session")
def labels(dataset: Dataset, model_store: Path) -> list[str]:
    """What the released model says of the first 500 test images."""
    probabilities = open_engine(model_store, "onnx", "cpu").predict(dataset.test.images[:500])
    return [CLASSES[index] for index in probabilities.argmax(axis=1)]
