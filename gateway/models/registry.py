"""The versions of the model in one gateway: each has an engine, a queue in front of it, and its health.

Requests that name no version go to the default one. The default changes between two turns of the event loop: earlier
requests finish with the old version, later ones go to the new version, and no request is delayed.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.drift import Reference
from fashion_mnist.errors import FashionMNISTError, NotFound, VersionError
from fashion_mnist.explanation import Explainer
from fashion_mnist.model_store import model_card, unknown_threshold
from fashion_mnist.predictions import Probabilities
from fashion_mnist.preparation import Mode
from fashion_mnist.task import Task
from gateway.http.static import File
from gateway.models.batching import Batcher
from gateway.models.engines import Backend
from gateway.models.health import Health
from gateway.models.versions import Version, VersionCounters, Versions
from gateway.observability.metrics import Metrics
from gateway.protocols import explain, native, oip_grpc, oip_rest, v1
from gateway.types.exchange import Codec
from gateway.types.page import Offered

log = logging.getLogger(__name__)

RETIRE_POLL_S: Final = 0.01
RETIRE_S: Final = 30.0
"""How long to wait for requests in flight before their version is unloaded anyway."""

NATIVE: Final = "native"
OIP_REST: Final = "oip_rest"
OIP_GRPC: Final = "oip_grpc"
V1: Final = "v1"


class Model:
    """One loaded version."""

    def __init__(
        self,
        version: Version,
        engine: Backend,
        batcher: Batcher,
        health: Health,
        counters: VersionCounters,
        prepare: Mode,
        explainer: Explainer | None = None,
        files: Mapping[str, File] | None = None,
    ) -> None:
        """`prepare` is the default for requests that do not choose how their images are prepared.

        `explainer` computes the layers' outputs; None if they are not shown, or the version lacks the files. `files`
        are what browsers are shown of the version, by name.
        """
        name, threshold, card = version.name, unknown_threshold(version.folder), model_card(version.folder)
        self.task = task = Task.from_card(card)
        self.version = version
        self.engine = engine
        self.batcher = batcher
        self.health = health
        self.counters = counters
        health.on_change = counters.write
        health.on_check = counters.count_check
        self.reference = Reference.from_card(card)
        self.reading = 0
        """Requests that a thread is decoding, which are not in the queue yet."""
        self.health_checks: asyncio.Task[None] | None = None
        self.routes = {
            NATIVE: Route(self, native.Native(task, name, threshold, prepare)),
            OIP_REST: Route(self, oip_rest.OipRest(task, name, threshold, prepare)),
            OIP_GRPC: Route(self, oip_grpc.OipGrpc(task, name, threshold, prepare)),
            V1: Route(self, v1.V1(task, threshold, prepare)),
        }
        self.explainer = explainer
        self.files = files or {}
        self.explain = explain.Explain(task, name, threshold, prepare, explainer.occlusion) if explainer else None

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return not self.reading and self.batcher.idle


class Route:
    """The entry point for requests of one protocol, to one version or to the current default."""

    __slots__ = ("codec", "model")

    def __init__(self, model: Model, codec: Codec[Any, Any]) -> None:
        self.model = model
        self.codec = codec


class Models:
    """All versions of one gateway. All methods run on the event loop."""

    def __init__(self, load: Callable[[Version], Model], metrics: Metrics, wanted: Versions) -> None:
        """Load the wanted versions. `load` is slow, and later runs in a thread.

        Raises FashionMNISTError if the default cannot be loaded; other versions that cannot are skipped.
        """
        self._load = load
        self._metrics = metrics
        self._applying = asyncio.Lock()
        self._draining = False
        self._models: dict[int, Model] = {}
        for version in wanted.versions:
            try:
                self._add(load(version))
            except FashionMNISTError as error:
                if version.name == wanted.default:
                    raise
                _skip(version, error)
        self.default = self._named(wanted.default)
        self.routes = {protocol: Route(route.model, route.codec) for protocol, route in self.default.routes.items()}
        """The routes of requests that name no version, by protocol; these objects stay the same."""
        self.on_change: Callable[[], None] = lambda: None
        self._use(self.default)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    @property
    def task(self) -> Task:
        """What all of them do."""
        return self.default.task

    @property
    def open(self) -> dict[str, Model]:
        """The versions that clients may request, by name."""
        return {model.version.name: model for model in self if model.version.open}

    def answered(self) -> int:
        """How many requests the versions that are loaded have answered."""
        return sum(model.counters.requests for model in list(self))

    @property
    def offered(self) -> Offered:
        """The default, and which versions are ready."""
        ready = {name: model.health.ready for name, model in self.open.items()}
        return Offered(self.default.version.name, ready)

    def find(self, name: str) -> Model:
        """The version of this name. Raises NotFound."""
        models = self.open
        if name not in models:
            raise NotFound(
                f"unknown version {name[:40]!r} of {self.task.name}: use one of {', '.join(models)}, or none"
            )
        return models[name]

    def numbered(self, number: int) -> Model | None:
        """The version of this number, open or being checked; None if it is not loaded."""
        return self._models.get(number)

    def start(self) -> None:
        """Start the health checks."""
        for model in self:
            self._start_checks(model)

    def drain(self) -> None:
        """Become not ready; requests that still arrive are answered."""
        self._draining = True
        for model in self:
            model.health.drain()

    def count(self) -> None:
        """Publish the counters to other processes."""
        for model in self:
            model.counters.write(model.health.ready)

    async def apply(self, wanted: Versions) -> None:
        """Load missing versions, change the default, and unload surplus versions, in this order.

        When it returns, requests in flight in unloaded versions have been answered. Raises FashionMNISTError if the
        default or a version that is being checked cannot be loaded; then nothing has changed.
        """
        async with self._applying:
            for version in wanted.versions:
                if version.number not in self._models:
                    try:
                        await self._load_and_check(version)
                    except FashionMNISTError as error:
                        if version.name == wanted.default or not version.open:
                            raise
                        _skip(version, error)
            for version in wanted.versions:
                model = self._models.get(version.number)
                if model is None:
                    continue
                if version.open and not model.version.open:
                    model.counters.requests = 0  # do not count those of the check
                    model.batcher.on_batch = self._count_other
                model.version = version
            self._use(self._named(wanted.default))
            numbers = {version.number for version in wanted.versions}
            removed = [self._models.pop(number) for number in list(self._models) if number not in numbers]
            self.on_change()
            self.count()
        for model in removed:
            await self._retire(model)

    async def close(self) -> None:
        """Wait for the batches in flight and close the engines."""
        for model in self:
            await self._close(model)
            model.counters.write(False)

    async def _load_and_check(self, version: Version) -> None:
        model = await asyncio.to_thread(self._load, version)
        if not version.open:
            await model.health.check()
            if not model.health.answers:
                await model.engine.close()
                raise VersionError(f"version {version.name} fails: {model.health.reason}")
        self._add(model)
        self._start_checks(model)

    def _add(self, model: Model) -> None:
        if model.version.open:
            model.batcher.on_batch = self._count_other
        if self._draining:
            model.health.drain()
        self._models[model.version.number] = model

    def _named(self, name: str) -> Model:
        return next(model for model in self if model.version.name == name)

    def _use(self, model: Model) -> None:
        if model is not self.default:
            log.info("the default changed", extra={"version": model.version.name, "before": self.default.version.name})
        self.default.batcher.on_batch = self._count_other
        # Drift is measured only for the default, against its training images.
        model.batcher.on_batch = self._metrics.batch
        if model is not self.default or self._metrics.reference is not model.reference:
            self._metrics.restart_drift(model.reference)
        self.default = model
        for protocol, route in self.routes.items():
            route.model, route.codec = model, model.routes[protocol].codec

    def _count_other(self, images: Pixels, probabilities: Probabilities) -> None:
        self._metrics.other_batch(probabilities)

    def _start_checks(self, model: Model) -> None:
        model.health_checks = asyncio.get_running_loop().create_task(model.health.run_checks())

    async def _retire(self, model: Model) -> None:
        """Wait for a removed version's requests in flight, then unload it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RETIRE_S
        while not model.idle and loop.time() < deadline:
            await asyncio.sleep(RETIRE_POLL_S)
        await self._close(model)
        log.info("version unloaded", extra={"version": model.version.name})

    async def _close(self, model: Model) -> None:
        if model.health_checks is not None:
            model.health_checks.cancel()
        await model.batcher.close()
        await model.engine.close()
        # Break the reference cycle: objects of the start are frozen and never garbage-collected.
        model.routes.clear()


def _skip(version: Version, error: FashionMNISTError) -> None:
    """Continue without a version that cannot be loaded any more."""
    log.error("a version cannot be loaded", extra={"version": version.name, "reason": error.message})
