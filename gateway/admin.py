"""What operators ask, on a port of its own: the metrics. The supervisor serves it, whatever becomes of the gateways."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import listening
from gateway.metrics import families


class _Gateways(Collector):
    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def collect(self) -> Iterator[Metric]:
        return families([path for path in self._paths if path.exists()])


def application(metrics: Sequence[Path]) -> Starlette:
    """The admin pages; `metrics` are the files of all gateways."""
    registry = CollectorRegistry()
    registry.register(_Gateways(metrics))

    def scrape(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/metrics", scrape)])


@contextmanager
def serve(host: str, port: int, metrics: Sequence[Path]) -> Iterator[int]:
    """Serve the admin pages in a thread; yields the port. Raises OSError where it cannot be had."""
    (sock,) = listening.listen(host, port, 1)
    config = uvicorn.Config(application(metrics), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],), name="admin", daemon=True)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(5)
        sock.close()
