"""One gateway process: `python -m gateway.process.worker`, started by the supervisor."""

import asyncio
import dataclasses
import gc
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from fashion_mnist import task as tasks
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import FashionMNISTError, ModelError
from fashion_mnist.explanation import Explainer, open_explainer
from fashion_mnist.model_store import model_task, read_health_image
from fashion_mnist.preparation import parse_mode
from fashion_mnist.settings import Settings
from gateway.app import Service
from gateway.http import listening
from gateway.http.connection import Connection
from gateway.http.keys import Keyring
from gateway.http.server import Server
from gateway.http.static import File
from gateway.http.tls import open_tls
from gateway.http.tls_listener import TlsListener
from gateway.models.batching import Batcher
from gateway.models.engines import Backend
from gateway.models.health import Health
from gateway.models.registry import Model, Models
from gateway.models.suspects import InFlight
from gateway.models.versions import Version, VersionCounters, Versions, counters_path
from gateway.observability import logs, loop_watchdog
from gateway.observability.metrics import Metrics, paths_of
from gateway.observability.traffic import Traffic
from gateway.process.control import Control
from gateway.web.model_files import files_of
from gateway.web.routes import is_on
from serving.config import RunFolder

if TYPE_CHECKING:
    from gateway.grpc.server import GrpcServer
    from gateway.observability.traces import Traces

log = logging.getLogger(__name__)

COUNT_S: Final = 0.5
REFRESH_S: Final = 0.5

COLLECTION: Final = (1_000, 5, 10_000)
"""gc.set_threshold: thousands of connections are thousands of objects, and to go through all of them takes longer than
one callback may, 24 ms for 4,000. Little of what a request makes is in cycles, and what is young is gone through."""

DRAIN_POLL_S: Final = 0.02
RETRY_S: Final = 1.0
"""How long clients wait to be accepted by a gateway whose engine has not answered it yet, before they are told so."""

ACCEPT_S: Final = 0.1
"""What has connected is accepted long before this is over."""


SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread that decodes keeps the interpreter from the event loop: Python's own 5 ms, several times a request,
are longer than all the rest of an answer."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What the supervisor tells a gateway."""

    settings: Settings
    """Without secrets: whoever is on this machine can read a process's arguments."""
    versions: Versions
    socket_fd: int
    grpc_address: str
    """Where to serve gRPC, as host:port; "" where that is off."""
    metrics: Path
    private_socket: Path
    """A socket in the file system, for the supervisor and its user: no TLS, no keys, nobody else can reach it."""

    def to_json(self) -> str:
        """As an argument of the process."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """From that argument."""
        found = json.loads(text)
        paths = {name: Path(found[name]) for name in ("metrics", "private_socket")}
        settings, versions = Settings(**found["settings"]), Versions.from_mapping(found["versions"])
        return cls(**{**found, **paths, "settings": settings, "versions": versions})


class Gateway:
    """One process's versions of the model, and its service."""

    def __init__(self, task: Task) -> None:
        self._task = task
        settings = task.settings
        self._traces = _traces(settings, task.versions.default)
        default = next(each for each in task.versions.versions if each.name == task.versions.default)
        done = model_task(default.folder)
        self._metrics = Metrics(task.metrics, task=done)
        self._models = Models(self._load, self._metrics, task.versions)
        self._tls = open_tls(settings)
        self._keyring = Keyring(Path(settings.key_file)) if settings.key_file else None
        self._traffic = Traffic(paths_of(task.metrics.parent, settings.gateways), done)
        self._in_flight = InFlight(task.metrics)
        self._service = Service(
            settings, self._models, self._metrics, self._traffic, self._in_flight, self._keyring, self._traces
        )
        self._private = Server(settings, Control(self._service, self._models).handle)
        self._stop: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until SIGTERM, or SIGINT from a person who does not want to wait; then drain and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number == signal.SIGTERM)
        server, private = self._service.server, self._private
        server.start()
        private.start()
        self._task.private_socket.unlink(missing_ok=True)  # a gateway that was killed left it
        private_socket = await loop.create_unix_server(lambda: Connection(private), str(self._task.private_socket))
        self._models.start()
        watching = [loop.create_task(task) for task in (self._count(), self._refresh())]
        with socket.socket(fileno=self._task.socket_fd) as public:
            # One who was cut off by the death of another gateway comes back at once, and should find this one ready.
            await asyncio.wait([loop.create_task(self._service.health.started.wait())], timeout=RETRY_S)
            accepting = await self._accept(server, public)
            grpc = await self._serve_grpc(server)
            politely = await self._stop
            await self._drain(public, accepting, grpc, politely)
        for task in watching:
            task.cancel()
        private_socket.close()
        self._service.close()
        server.stop()
        private.stop()
        await self._models.close()
        self._metrics.gauges(0, 0, 0, 0)
        self._metrics.count()
        if self._traces is not None:
            self._traces.close()

    def _load(self, version: Version) -> Model:
        """Load a version, which takes half a second. Raises FashionMNISTError."""
        settings = self._task.settings
        task = model_task(version.folder)
        image = decode(read_health_image(version.folder), "", Limits.from_settings(settings), task).pixels
        engine = _engine(settings, version, task, self._traces)
        health = Health(engine, image, version.name, task)
        batcher = Batcher(engine, settings.max_queued_images)
        batcher.on_failure = health.fail
        if self._traces is not None:
            batcher.tracing = self._traces.batch
        counters = VersionCounters(counters_path(self._task.metrics, version.number))
        explainer, files = _shown(version) if is_on(settings) else (None, None)
        return Model(version, engine, batcher, health, counters, parse_mode(settings.prepare), explainer, files)

    async def _accept(self, server: Server, public: socket.socket) -> asyncio.Server | TlsListener:
        if self._tls is not None:
            return TlsListener(server, lambda: Connection(server), public, self._tls.context)
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Connection(server), sock=public, backlog=listening.BACKLOG)

    async def _serve_grpc(self, server: Server) -> "GrpcServer | None":
        if not self._task.grpc_address:
            return None
        from gateway.grpc.server import GrpcServer

        handle, health = self._service.handle_call, lambda: self._service.health.ready
        served = GrpcServer(server, self._task.grpc_address, self._tls, handle, health)
        await served.start()
        return served

    def _end(self, politely: bool) -> None:
        if not self._stop.done():
            self._stop.set_result(politely)

    async def _drain(
        self, public: socket.socket, accepting: asyncio.Server | TlsListener, grpc: "GrpcServer | None", politely: bool
    ) -> None:
        """Tell load balancers, answer what is asked, take no more, and wait for the last answer."""
        settings, server = self._task.settings, self._service.server
        log.info("draining", extra={"connections": len(server.connections)})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.shutdown_timeout_s
        self._models.drain()
        server.draining = True
        if politely:
            await asyncio.sleep(min(settings.drain_s, settings.shutdown_timeout_s))
        listening.drop_new_connections(public)
        calls = asyncio.create_task(grpc.stop(max(0.0, deadline - loop.time()))) if grpc else None
        await asyncio.sleep(ACCEPT_S)
        accepting.close()
        try:
            async with asyncio.timeout_at(deadline):
                while server.connections:
                    server.for_each_connection(lambda connection: connection.close_if_idle())
                    await asyncio.sleep(DRAIN_POLL_S)
        except TimeoutError:
            log.warning("connections cut off", extra={"connections": len(server.connections)})
        if calls is not None:
            await calls
        log.info("drained")

    async def _count(self) -> None:
        while True:
            server = self._service.server
            waiting = sum(model.batcher.waiting for model in self._models)
            self._metrics.gauges(self._service.health.ready, len(server.connections), waiting, server.buffered_bytes)
            self._metrics.count()
            self._models.count()
            self._traffic.sample()
            await asyncio.sleep(COUNT_S)

    async def _refresh(self) -> None:
        """Notice what operators replace."""
        while True:
            if self._keyring is not None:
                self._keyring.refresh()
            if self._tls is not None:
                self._tls.refresh()
            self._in_flight.refresh()
            await asyncio.sleep(REFRESH_S)


def main(arguments: Iterable[str] = tuple(sys.argv[1:])) -> None:
    """Run one gateway. The only argument is a `Task` as JSON."""
    task = Task.from_json(*arguments)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with logs.configured(task.settings.log_format):
        listening.allow_connections()
        try:
            if task.settings.loop_watchdog == "on":
                with loop_watchdog.watching():
                    asyncio.run(_run(task))
            else:
                uvloop.run(_run(task))
        except FashionMNISTError as error:
            log.error(error.message, extra={"code": error.code})
            sys.exit(1)


async def _run(task: Task) -> None:
    gateway = Gateway(task)
    # What is there by now stays: the collector need not go through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION)
    await gateway.run()


def _shown(version: Version) -> tuple[Explainer | None, dict[str, File]]:
    """What shows a version's layers, and its files for browsers; without them all else is served."""
    explainer = None
    try:
        explainer = open_explainer(version.folder)
    except (ModelError, ImportError) as error:
        log.error("layers cannot be shown", extra={"version": version.name, "reason": str(error)})
    return explainer, files_of(version, explainer)


def _traces(settings: Settings, version: str) -> "Traces | None":
    if not settings.traces_endpoint:
        return None
    from gateway.observability.traces import Traces

    return Traces(settings, version)


def _engine(settings: Settings, version: Version, task: tasks.Task, traces: "Traces | None") -> Backend:
    # Only the one that is asked for: ONNX Runtime takes a quarter of a second to import.
    if settings.engine == "embedded":
        from gateway.models.engines.embedded import EmbeddedEngine

        return EmbeddedEngine(settings, version.folder)
    if settings.engine == "oip":
        from gateway.models.engines.oip import OipEngine

        return OipEngine(settings, task)
    from gateway.models.engines.torchserve import TorchServeEngine

    engine = TorchServeEngine(settings, RunFolder(Path(version.torchserve)), task)
    if traces is not None:
        engine.headers = traces.engine_headers
    return engine


if __name__ == "__main__":
    main()
