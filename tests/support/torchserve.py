"""The real TorchServe for tests, on free ports, ended with the test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from export import archive
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from serving.torchserve import TorchServe

RunningServer = TorchServe


@contextmanager
def running_server(
    settings: Settings | None = None, build: Callable[[Path], object] | None = None
) -> Iterator[RunningServer]:
    """A TorchServe that passes its health check, with the released model unless `build` makes another archive."""
    settings = settings or Settings.from_environment(port=0, device="cpu")
    store = model_store_path(settings)
    with TorchServe(settings, store) as server:
        server.prepare(build or (lambda path: archive.build(settings, store, path)))
        server.start()
        server.wait_until_ready()
        yield server
