"""What bodies take of a gateway's memory: as much as they have bytes, and no more once they are answered."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.http import connected, read_answer, request
from tests.support.memory import Peak

ODD, LONG_ODD = 784 * 10_000 + 1, 784 * 20_000 + 1
"""So many bytes are no whole number of images: they are refused when the last one is there, and nothing is decoded."""

SLACK = 8 * 2**20


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServeCommand]:
    """A server whose memory nobody has used yet: what others gave back would be used again, and nothing grow."""
    with serve_command(tmp_path, "--engine", "embedded") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        yield command


def test_body_is_held_once(embedded: ServeCommand) -> None:
    peak = Peak(embedded.gateway())
    with connected(embedded.url) as connection:
        connection.sendall(request(b"\x01" * LONG_ODD))
        assert read_answer(connection).status == 400
    assert peak.grown() < LONG_ODD + SLACK


@pytest.mark.parametrize("byte", [b"\x01", b"["], ids=["pixels", "JSON"])
def test_bodies_that_come_at_once_are_held_once_and_given_back(fresh: ServeCommand, byte: bytes) -> None:
    count = 12
    whole = request(byte * ODD)
    peak = Peak(fresh.gateway())
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(fresh.url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(whole[:-1])
        wait_until(lambda: peak.grown() > count * ODD - SLACK, "the bodies")
        for connection in connections:
            connection.sendall(whole[-1:])
        assert {read_answer(connection).status for connection in connections} == {400}
    assert peak.grown() < (count + 1) * ODD + 2 * SLACK
    wait_until(lambda: peak.kept() < 2 * SLACK, "memory given back", 10)
