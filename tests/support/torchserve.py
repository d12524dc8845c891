"""The real TorchServe for tests, alone on a free port, ended with the test."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from export import archive
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from serving.config import free_ports
from serving.torchserve import TorchServe

RunningServer = TorchServe


@contextmanager
def running_server(
    settings: Settings | None = None, build: Callable[[Path], object] | None = None
) -> Iterator[RunningServer]:
    """A TorchServe that passes its health check, with the released model unless `build` makes another archive."""
    settings = settings or Settings.from_environment(port=0, device="cpu")
    store = model_store_path(settings)
    (port,) = free_ports(1)
    with (
        tempfile.TemporaryDirectory(prefix="torchserve-") as folder,
        TorchServe(settings, store, Path(folder), port=port) as server,
    ):
        server.prepare(build or (lambda path: archive.build(settings, store, path)))
        server.start()
        server.wait_until_ready()
        yield server
