"""Running gateways, shared by the tests of this room: one with each engine."""

from collections.abc import Iterator

import pytest

from tests.gateway.command import ServeCommand, serve_command, wait_until


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """`fashion-mnist serve --engine embedded`, ready."""
    yield from _ready(tmp_path_factory, "embedded")


@pytest.fixture(scope="session")
def in_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """`fashion-mnist serve`, in front of the real TorchServe, ready."""
    yield from _ready(tmp_path_factory, "torchserve")


def _ready(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[ServeCommand]:
    with serve_command(tmp_path_factory.mktemp(engine), "--engine", engine) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command
