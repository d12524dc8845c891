"""What operators ask, on a port of its own: the metrics, and which versions of the model are served.

The supervisor serves it, whatever becomes of the gateways.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fashion_mnist.errors import Forbidden
from fashion_mnist.predictions import answer_error
from gateway.http import listening
from gateway.http.keys import ADMIN, Keyring
from gateway.http.tls import Tls
from gateway.observability.metrics import families, version_families
from gateway.observability.process_metrics import Processes
from gateway.observability.torchserve_metrics import TorchServes
from gateway.process import version_pages
from gateway.process.rollout import Rollout
from gateway.types.errors import challenge


class _Gateways(Collector):
    def __init__(self, paths: Sequence[Path], rollout: Rollout) -> None:
        self._paths = paths
        self._rollout = rollout

    def collect(self) -> Iterator[Metric]:
        yield from families(
            [path for path in self._paths if path.exists()], self._rollout.reference, self._rollout.task
        )
        yield from version_families(self._rollout.listed())


class _Keys:
    """ASGI: lets through what carries a key for administration."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = None
        if scope["type"] == "http":
            self._keyring.refresh()
            error = self._keyring.refusal(Headers(scope=scope).get("authorization", ""), ADMIN)
        if error is None:
            await self._app(scope, receive, send)
        else:
            answer = answer_error(error)
            headers = {"content-type": answer.content_type, "www-authenticate": challenge(error)}
            await Response(answer.body, answer.status, headers)(scope, receive, send)


class _LocalNames:
    """ASGI: lets through what was asked of this machine by its address, or by the name that everybody has for it.

    Another name that leads to a loopback address is that of a page which is not ours (DNS rebinding). At other
    addresses the port is served with keys, or behind something that asks for them, by whatever name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_loopback(scope["server"][0]):
            name = urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname or ""
            if name != "localhost" and not _is_address(name):
                answer = answer_error(Forbidden(f"{name[:80]!a} is no name of this machine: ask localhost"))
                await Response(answer.body, answer.status, {"content-type": answer.content_type})(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ip_address(name.partition("%")[0]).is_loopback


def application(
    metrics: Sequence[Path], gateways: Callable[[], Collection[int]], rollout: Rollout, keyring: Keyring | None
) -> Starlette:
    """The admin pages.

    `metrics` are the files of all gateways, `gateways` tells their process ids, `rollout` has the versions of the
    model, `keyring` the keys that open the pages; None where no key is needed.
    """
    registry = CollectorRegistry()
    registry.register(_Gateways(metrics, rollout))
    registry.register(Processes(gateways, lambda: [running.pid for running in rollout.torchserves.values()]))
    registry.register(TorchServes(lambda: rollout.torchserves))

    def scrape(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    # Where nobody has a key, a page in a browser on this machine must not read what is here by a name of its own.
    middleware = [Middleware(_LocalNames)] if keyring is None else [Middleware(_Keys, keyring)]
    return Starlette(routes=[Route("/metrics", scrape), *version_pages.routes(rollout)], middleware=middleware)


SILENCE_S: Final = 10.0
"""How long a connection may take until it has sent its first request, and any other one from its first byte on."""

CONNECTIONS: Final = 64
"""The most at once: a few operators and Prometheus. Each is an open file of the process that restarts the others."""


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, which waits for a request, and for its body, as long as its client likes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._silence: asyncio.TimerHandle | None = None
        self._await_request()
        if len(self.connections) > CONNECTIONS:
            # The one that has been receiving a request for longest makes room; where there is none, the new one.
            silent = [each for each in self.connections if isinstance(each, _Connection) and each._silence is not None]
            min(silent, key=_Connection._due).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._await_request()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()

    def _await_request(self) -> None:
        self._stop_waiting()
        self._silence = self.loop.call_later(SILENCE_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _due(self) -> float:
        return self._silence.when() if self._silence is not None else math.inf


@contextmanager
def serve(host: str, port: int, pages: ASGIApp, tls: Tls | None) -> Iterator[int]:
    """Serve the admin pages in a thread; yields the port. Raises OSError where it cannot be had."""
    (sock,) = listening.listen(host, port, 1)
    config = uvicorn.Config(pages, http=_Connection, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    config.ssl = tls.context if tls else None
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],), name="admin", daemon=True)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(5)
        sock.close()
