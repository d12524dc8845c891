"""The versions of the model as one gateway serves them: to each an engine, a line in front of it, and its health.

Requests that name no version go to the default one. Which that is changes between two turns of the event loop: what was
taken before ends where it began, what comes after goes to the new one, and nobody waits.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.drift import Reference
from fashion_mnist.errors import FashionMNISTError, NotFound, VersionError
from fashion_mnist.explanation import Explainer
from fashion_mnist.model_store import model_card, unknown_threshold
from fashion_mnist.predictions import Probabilities
from fashion_mnist.preparation import Mode
from fashion_mnist.task import Task
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
"""How long what is in flight may take to end before its version is unloaded all the same."""

NATIVE: Final = "native"
OIP_REST: Final = "oip_rest"
OIP_GRPC: Final = "oip_grpc"
V1: Final = "v1"


class Model:
    """One version, loaded."""

    def __init__(
        self,
        version: Version,
        engine: Backend,
        batcher: Batcher,
        health: Health,
        counters: VersionCounters,
        prepare: Mode,
        explainer: Explainer | None = None,
    ) -> None:
        """`prepare` is what is done with images where a request does not say it.

        `explainer` shows the layers, where they are to be shown and the version has what that takes.
        """
        name, threshold, card = version.name, unknown_threshold(version.folder), model_card(version.folder)
        self.task = task = Task.from_card(card)
        self.version = version
        self.engine = engine
        self.batcher = batcher
        self.health = health
        self.counters = counters
        health.on_change = counters.write
        health.on_canary = counters.canary
        self.reference = Reference.from_card(card)
        self.reading = 0
        """Requests for it that a thread is reading: they are not in its line yet."""
        self.watching: asyncio.Task[None] | None = None
        self.routes = {
            NATIVE: Route(self, native.Native(task, name, threshold, prepare)),
            OIP_REST: Route(self, oip_rest.OipRest(task, name, threshold, prepare)),
            OIP_GRPC: Route(self, oip_grpc.OipGrpc(task, name, threshold, prepare)),
            V1: Route(self, v1.V1(task, threshold, prepare)),
        }
        self.explainer = explainer
        self.explain = explain.Explain(task, name, threshold, prepare, explainer.occlusion) if explainer else None

    @property
    def idle(self) -> bool:
        """Whether no request is on its way through it."""
        return not self.reading and self.batcher.idle


class Route:
    """Where requests come in that speak one protocol: to one version, or to the default, whichever that is now."""

    __slots__ = ("codec", "model")

    def __init__(self, model: Model, codec: Codec[Any, Any]) -> None:
        self.model = model
        self.codec = codec


class Models:
    """All versions of one gateway. Everything in it runs on the event loop."""

    def __init__(self, load: Callable[[Version], Model], metrics: Metrics, wanted: Versions) -> None:
        """Load what is wanted. `load` takes its time, and may run in a thread.

        Raises FashionMNISTError where the default cannot be loaded; any other one is then left out.
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
                _leave_out(version, error)
        self.default = self._named(wanted.default)
        self.routes = {protocol: Route(route.model, route.codec) for protocol, route in self.default.routes.items()}
        """Where requests that name no version come in, by protocol: the same objects for good."""
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
        """Those that clients may ask for, by name."""
        return {model.version.name: model for model in self if model.version.open}

    @property
    def offered(self) -> Offered:
        """What there is to say of them."""
        ready = {name: model.health.ready for name, model in self.open.items()}
        return Offered(self.default.version.name, ready)

    def find(self, name: str) -> Model:
        """The version of this name. Raises NotFound."""
        models = self.open
        if name not in models:
            raise NotFound(
                f"there is no version {name[:40]!r} of {self.task.name}: there are {', '.join(models)}; or name none"
            )
        return models[name]

    def numbered(self, number: int) -> Model | None:
        """One of them, whether it is open or being checked."""
        return self._models.get(number)

    def start(self) -> None:
        """Begin to watch over them."""
        for model in self:
            self._watch(model)

    def drain(self) -> None:
        """Ask for no more requests; those that come are answered."""
        self._draining = True
        for model in self:
            model.health.drain()

    def count(self) -> None:
        """Let other processes see how things stand."""
        for model in self:
            model.counters.write(model.health.ready)

    async def apply(self, wanted: Versions) -> None:
        """Load what is missing, change the default, unload what is too much: in this order.

        When it returns, requests that were in flight in what was unloaded have been answered. Raises FashionMNISTError
        where the default, or a version that is being checked, cannot be loaded; nothing has changed then.
        """
        async with self._applying:
            for version in wanted.versions:
                if version.number not in self._models:
                    try:
                        await self._load_anew(version)
                    except FashionMNISTError as error:
                        if version.name == wanted.default or not version.open:
                            raise
                        _leave_out(version, error)
            for version in wanted.versions:
                model = self._models.get(version.number)
                if model is None:
                    continue
                if version.open and not model.version.open:
                    model.counters.requests = 0  # those that checked it
                    model.batcher.on_batch = self._count_other
                model.version = version
            self._use(self._named(wanted.default))
            numbers = {version.number for version in wanted.versions}
            gone = [self._models.pop(number) for number in list(self._models) if number not in numbers]
            self.on_change()
            self.count()
        for model in gone:
            await self._retire(model)

    async def close(self) -> None:
        """Wait for the batches in flight and let go of everything."""
        for model in self:
            await self._close(model)
            model.counters.write(False)

    async def _load_anew(self, version: Version) -> None:
        model = await asyncio.to_thread(self._load, version)
        if not version.open:
            await model.health.ask()
            if not model.health.answers:
                await model.engine.close()
                raise VersionError(f"version {version.name} fails: {model.health.reason}")
        self._add(model)
        self._watch(model)

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
            log.info("another default", extra={"version": model.version.name, "before": self.default.version.name})
        self.default.batcher.on_batch = self._count_other
        # Drift is measured of the default alone, from what it was trained on.
        model.batcher.on_batch = self._metrics.batch
        if model is not self.default or self._metrics.reference is not model.reference:
            self._metrics.watch(model.reference)
        self.default = model
        for protocol, route in self.routes.items():
            route.model, route.codec = model, model.routes[protocol].codec

    def _count_other(self, images: Pixels, probabilities: Probabilities) -> None:
        self._metrics.other_batch(probabilities)

    def _watch(self, model: Model) -> None:
        model.watching = asyncio.get_running_loop().create_task(model.health.watch())

    async def _retire(self, model: Model) -> None:
        """Let what is in flight end, then unload a version that nobody finds any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RETIRE_S
        while not model.idle and loop.time() < deadline:
            await asyncio.sleep(RETIRE_POLL_S)
        await self._close(model)
        log.info("version unloaded", extra={"version": model.version.name})

    async def _close(self, model: Model) -> None:
        if model.watching is not None:
            model.watching.cancel()
        await model.batcher.close()
        await model.engine.close()
        # A circle, which the collector would not see: what is there from the beginning is hidden from it.
        model.routes.clear()


def _leave_out(version: Version, error: FashionMNISTError) -> None:
    """Go on without a version that was good once: the others must not wait for it."""
    log.error("a version cannot be loaded", extra={"version": version.name, "reason": error.message})
