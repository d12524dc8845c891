"""The words and addresses of readiness."""

from pathlib import Path

import pytest

from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST
from serving import readiness


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7")],
)
def test_a_server_on_every_address_is_reached_on_loopback(host: str, reached: str) -> None:
    assert readiness.url(host, 8080) == f"http://{reached}:8080/predictions/fashion_mnist"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (Settings(port=9000), "http://127.0.0.1:9000"),
        (Settings(host="0.0.0.0", tls_certificate="/c.pem", tls_key="/k.pem"), "https://127.0.0.1:8080"),
        (Settings(host="::", tls_certificate="/c.pem", tls_key="/k.pem"), "https://[::1]:8080"),
    ],
)
def test_what_settings_describe_is_reached_as_they_say(settings: Settings, url: str) -> None:
    assert readiness.own_url(settings) == f"{url}/predictions/fashion_mnist"


def test_nobody_there_is_not_ready() -> None:
    with pytest.raises(readiness.NotReady, match="no answer on 127.0.0.1:9"):
        readiness.check_health_image("127.0.0.1", 9, FASHION_MNIST, b"")
    with pytest.raises(readiness.NotReady, match="no answer on /nowhere"):
        readiness.ask_at(Path("/nowhere"))
