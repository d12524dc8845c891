"""A body that ends gateways is found, and refused instead of ending them again and again."""

import contextlib
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest

from gateway.models.suspects import InFlight, Suspects, in_flight_path, key_of
from tests.hostile.floods import photograph
from tests.support.command import gone, serve_command, wait_until
from tests.support.http import connected, request

IMAGE = bytes(784)


def test_body_that_was_decoded_at_two_crashes_is_refused_by_all(tmp_path: Path) -> None:
    body = photograph(4000, 3000, progressive=True)
    with serve_command(tmp_path, "--engine", "embedded") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        decoding = in_flight_path(Path(command.state().private_sockets[0]).parent / "metrics-0")
        for crash in (1, 2):
            gateway = command.gateway()
            with contextlib.suppress(OSError), connected(command.url) as connection:
                connection.sendall(request(body))
                wait_until(lambda: np.fromfile(decoding, np.uint64).any(), "its decoding", 20)
                gateway.send_signal(signal.SIGSEGV)
                wait_until(lambda gateway=gateway: gone([gateway]), "its end", 10)  # type: ignore[misc]
            wait_until(lambda crash=crash: command.times_ready() == crash + 1, "ready again")  # type: ignore[misc]
        refused = httpx.post(command.url, content=body, timeout=20)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "suspect_body")
        assert httpx.post(command.url, content=IMAGE, timeout=20).status_code == 200
        assert "1 bodies are refused" in command.said()


def test_refusal_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, body = tmp_path / "metrics-0", b"a body"
    suspects, in_flight = Suspects(metrics), InFlight(metrics)
    for _ in range(2):
        in_flight.decode(body, lambda: suspects.crashed(metrics))
    other = InFlight(tmp_path / "metrics-1")
    with pytest.raises(Exception, match="another format"):
        other.decode(body, lambda: None)
    assert other.decode(b"another body", lambda: 7) == 7
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    suspects.forget()
    other.refresh()
    assert other.decode(body, lambda: 7) == 7


def test_keys_tell_bodies_apart() -> None:
    long = bytes(100_000)
    assert len({key_of(body) for body in (b"", b"a", b"b", long, long + b"a", b"a" + long)}) == 6
    assert all(0 < key_of(body) < 2**64 for body in (b"", b"a", long))
