"""The versions of one gateway: what is in flight ends where it began, and what is unloaded leaves nothing behind."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError, ModelError, NotFound, VersionError
from fashion_mnist.model_store import HEALTH_IMAGE
from fashion_mnist.predictions import Probabilities
from gateway.models.batching import Batcher
from gateway.models.health import Health
from gateway.models.registry import NATIVE, Model, Models
from gateway.models.versions import Version, VersionCounters, Versions
from gateway.observability.metrics import Metrics
from tests.support.batches import Client, settle

IMAGE = np.zeros((1, 1, 28, 28), np.uint8)


class Engine:
    """Names each image as it was told to, at once, or when it is let."""

    max_batch = 64

    def __init__(self, label: str = HEALTH_IMAGE[1]) -> None:
        self._row = np.eye(10, dtype=np.float32)[CLASSES.index(label)]
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.closed = False

    def wants(self, in_flight: int, waiting: int) -> bool:
        return in_flight == 0

    async def predict(self, images: Pixels) -> Probabilities:
        await self.may_answer.wait()
        assert not self.closed
        return np.repeat(self._row[None], len(images), axis=0)

    async def close(self) -> None:
        self.closed = True


class Loader:
    """Loads versions whose engines a test has in its hands."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder = folder
        self._store = store
        self.labels: dict[str, str] = {}
        self.engines: dict[int, weakref.ref[Engine]] = {}

    def version(self, name: str, number: int, *, open: bool = True) -> Version:
        return Version(name, number, self._store, open=open)

    def load(self, version: Version) -> Model:
        if version.name == "broken":
            raise ModelError("it is broken")
        engine = Engine(self.labels.get(version.name, HEALTH_IMAGE[1]))
        self.engines[version.number] = weakref.ref(engine)
        batcher, health = Batcher(engine, 1000), Health(engine, IMAGE, version.name)
        return Model(
            version, engine, batcher, health, VersionCounters(self._folder / f"counters-{version.number}"), "auto"
        )

    def engine(self, number: int) -> Engine:
        engine = self.engines[number]()
        assert engine is not None
        return engine


@pytest.fixture
def loader(tmp_path: Path, model_store: Path) -> Loader:
    return Loader(tmp_path, model_store)


def models_of(loader: Loader, tmp_path: Path, *versions: Version) -> Models:
    return Models(loader.load, Metrics(tmp_path / "metrics"), Versions(versions[0].name, versions))


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_what_is_in_flight_ends_with_the_version_that_it_began_with(loader: Loader, tmp_path: Path) -> None:
    async def test() -> None:
        first, second = loader.version("1.0", 1), loader.version("2.0", 2)
        models = models_of(loader, tmp_path, first)
        await models.apply(Versions("1.0", (first, second)))
        engine = loader.engine(1)
        engine.may_answer.clear()
        client = Client(models.routes[NATIVE].model.batcher)
        client.send(1, 100)  # more than one batch
        await settle()
        await models.apply(Versions("2.0", (first, second)))
        assert models.routes[NATIVE].model.version.name == "2.0"
        unloading = asyncio.create_task(models.apply(Versions("2.0", (second,))))
        await settle()
        # Nobody finds it any more, and it computes still.
        with pytest.raises(NotFound):
            models.find("1.0")
        assert not unloading.done()
        assert not engine.closed
        engine.may_answer.set()
        await unloading
        assert engine.closed
        assert client.answers == {1: [0] * 100}

    run(test)


def test_what_a_thread_is_reading_is_waited_for(loader: Loader, tmp_path: Path) -> None:
    async def test() -> None:
        first, second = loader.version("1.0", 1), loader.version("2.0", 2)
        models = models_of(loader, tmp_path, first, second)
        model = models.find("2.0")
        model.reading += 1
        unloading = asyncio.create_task(models.apply(Versions("1.0", (first,))))
        await settle()
        assert not unloading.done()
        model.reading -= 1
        await unloading

    run(test)


def test_a_version_that_is_unloaded_leaves_no_engine_behind(loader: Loader, tmp_path: Path) -> None:
    """Also where the collector has been told to look at nothing that was there at the start."""

    async def test() -> None:
        first, second = loader.version("1.0", 1), loader.version("2.0", 2)
        models = models_of(loader, tmp_path, first, second)
        models.start()
        await settle()
        gc.disable()
        try:
            await models.apply(Versions("2.0", (second,)))
            await settle()
            assert loader.engines[1]() is None
            assert loader.engines[2]() is not None
        finally:
            gc.enable()
        await models.close()

    run(test)


def test_a_version_that_is_being_checked_is_nobodys(loader: Loader, tmp_path: Path) -> None:
    async def test() -> None:
        first, candidate = loader.version("1.0", 1), loader.version("2.0", 2, open=False)
        models = models_of(loader, tmp_path, first)
        changes: list[list[str]] = []
        models.on_change = lambda: changes.append(list(models.offered.ready))
        await models.apply(Versions("1.0", (first, candidate)))
        assert models.numbered(2) is not None
        with pytest.raises(NotFound):
            models.find("2.0")
        await models.apply(Versions("1.0", (first, loader.version("2.0", 2))))
        assert models.find("2.0").version.open
        assert changes == [["1.0"], ["1.0", "2.0"]]
        await models.close()

    run(test)


@pytest.mark.parametrize("name", ["broken", "wrong"])
def test_a_version_that_fails_changes_nothing(loader: Loader, tmp_path: Path, name: str) -> None:
    async def test() -> None:
        loader.labels["wrong"] = "Bag"
        first = loader.version("1.0", 1)
        models = models_of(loader, tmp_path, first)
        with pytest.raises(FashionMNISTError) as failed:
            await models.apply(Versions("1.0", (first, loader.version(name, 2, open=False))))
        if name == "wrong":
            assert isinstance(failed.value, VersionError)
            assert "'Bag'" in failed.value.message
        assert list(models.open) == ["1.0"]
        assert models.numbered(2) is None
        await models.close()

    run(test)


def test_a_gateway_that_starts_does_without_what_cannot_be_loaded(loader: Loader, tmp_path: Path) -> None:
    async def test() -> None:
        first, broken, third = loader.version("1.0", 1), loader.version("broken", 2), loader.version("3.0", 3)
        models = models_of(loader, tmp_path, first, broken, third)
        assert list(models.open) == ["1.0", "3.0"]
        # Nor does it keep others from being used.
        await models.apply(Versions("3.0", (first, broken, third)))
        assert models.default.version == third
        await models.close()
        with pytest.raises(ModelError):
            models_of(loader, tmp_path, broken, first)

    run(test)


def test_one_name_loaded_again_is_another_version(loader: Loader, tmp_path: Path) -> None:
    async def test() -> None:
        first, second = loader.version("1.0", 1), loader.version("2.0", 2)
        models = models_of(loader, tmp_path, first, second)
        await models.apply(Versions("1.0", (first, loader.version("2.0", 3))))
        assert models.find("2.0").version.number == 3
        assert models.numbered(2) is None
        await models.close()

    run(test)


def test_a_tally_outlives_its_gateway(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    assert VersionCounters.read(path) == (0, False, 0, 0)
    counters = VersionCounters(path)
    counters.requests += 3
    counters.count_check(True)
    counters.count_check(False)
    counters.count_check(False)
    counters.write(True)
    assert VersionCounters.read(path) == (3, True, 1, 2)
    again = VersionCounters(path)
    assert VersionCounters.read(path) == (3, False, 1, 2)
    again.requests += 1
    again.write(False)
    assert VersionCounters.read(path) == (4, False, 1, 2)
