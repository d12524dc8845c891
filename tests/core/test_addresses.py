"""Addresses that people name are checked, and this machine is asked past any proxy."""

from pathlib import Path

import httpx
import pytest

from fashion_mnist.client.http import Client
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import HEALTH_IMAGE
from fashion_mnist.system.addresses import checked_url, is_loopback, open_http
from tests.support.command import ServeCommand

ENVIRONMENTS = {
    "a proxy that is not there": {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
    "a proxy of another kind": {"ALL_PROXY": "socks5://127.0.0.1:9"},
    "exceptions that are no addresses": {"NO_PROXY": "localhost,[::1]", "HTTP_PROXY": "http://127.0.0.1:9"},
    "certificates that are not there": {"SSL_CERT_FILE": "/nonexistent"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_our_own_server_is_asked_past_any_proxy(
    embedded: ServeCommand, model_store: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Client(embedded.url) as client:
        (prediction,) = client.classify((model_store / HEALTH_IMAGE[0]).read_bytes())
    assert getattr(prediction, "label", None) == HEALTH_IMAGE[1]


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "localhost:8080",
        "http://[::1",
        "http://",
        "ftp://a",
        "",
        "http://a:port",
        "http://a/?b=c",
        "é\n",
    ],
)
def test_a_bad_address_is_named(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        checked_url(url)
    assert repr(url) in raised.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", "https://[::1]:8080", "http://example.org/predictions/a"])
def test_a_good_address_is_taken(url: str) -> None:
    assert checked_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://127.8.9.1", True), ("http://[::1]:1", True), ("http://localhost", True), ("http://192.0.2.1", False)],
)
def test_loopback_is_told_by_name(url: str, loopback: bool) -> None:
    assert is_loopback(url) == loopback


def test_what_the_environment_says_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks9://127.0.0.1:9")
    with pytest.raises(UsageError, match="ALL_PROXY"):
        open_http(httpx.Client, "http://192.0.2.1:8080")
