"""CORS: a page of a listed origin may read every answer, refusals too; any other gets what it gets today."""

from collections.abc import Iterator

import httpx
import pytest

from fashion_mnist.errors import UsageError
from gateway.http.cors import Cors
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.keys import add_key

PAGE = "https://example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """A server that lets one page in, and asks for keys."""
    folder = tmp_path_factory.mktemp("cors")
    add_key(folder / "keys.json")
    environment = {
        "FASHION_MNIST_CORS_ORIGINS": f"{PAGE}, http://localhost:3000",
        "FASHION_MNIST_KEY_FILE": str(folder / "keys.json"),
    }
    with serve_command(folder, "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


@pytest.fixture(scope="module")
def key(server: ServeCommand) -> str:
    text = add_key(server.output.parent / "keys.json")[0]
    wait_until(lambda: ask(server.url, PAGE, key=text).status_code == 200, "the key", 10)
    return text


def ask(url: str, origin: str, method: str = "POST", key: str = "") -> httpx.Response:
    headers = {"origin": origin} | ({"authorization": f"Bearer {key}"} if key else {})
    return httpx.request(method, url, content=bytes(784), headers=headers, timeout=10)


def test_a_browser_that_asks_first_needs_no_key(server: ServeCommand) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    response = httpx.options(server.url, headers={"origin": PAGE, **asked}, timeout=10)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "Authorization" in response.headers["access-control-allow-headers"]


def test_answers_and_refusals_may_be_read(server: ServeCommand, key: str) -> None:
    for response, status in ((ask(server.url, PAGE, key=key), 200), (ask(server.url, PAGE), 401)):
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["vary"] == "Origin"


def test_others_may_not_read(server: ServeCommand, embedded: ServeCommand, key: str) -> None:
    for response in (
        ask(server.url, "https://example.com", key=key),
        ask(server.url, PAGE + ".evil.example", key=key),
        ask(server.url, "null", key=key),
        ask(embedded.url, PAGE),
    ):
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers
    assert ask(server.url, "https://example.com", "OPTIONS").status_code == 405
    assert ask(embedded.url, PAGE, "OPTIONS").status_code == 405


def test_all_may_be_let_in() -> None:
    assert b"Access-Control-Allow-Origin: *\r\n" in Cors("*").headers("null")


@pytest.mark.parametrize(
    "origins", ["example.org", "https://example.org/page", "https://a b", "https://a\r\nX: y", "**"]
)
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(UsageError, match="cors_origins"):
        Cors(origins)
