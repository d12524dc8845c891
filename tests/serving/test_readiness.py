"""The words and addresses of readiness."""

from pathlib import Path

import pytest

from serving import readiness


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7")],
)
def test_a_server_on_every_address_is_reached_on_loopback(host: str, reached: str) -> None:
    assert readiness.url(host, 8080) == f"http://{reached}:8080/predictions/fashion_mnist"


def test_nobody_there_is_not_ready() -> None:
    with pytest.raises(readiness.NotReady, match="no answer on 127.0.0.1:9"):
        readiness.ask_canary("127.0.0.1", 9, b"")
    with pytest.raises(readiness.NotReady, match="no answer on /nowhere"):
        readiness.ask_at(Path("/nowhere"))
