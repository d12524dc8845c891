"""The client, sync and async: when it asks again, and what it makes of answers that a good service seldom gives."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from fashion_mnist.client.http import AsyncClient, Client
from fashion_mnist.errors import BadArray, BadLength, FashionMNISTError, InputError, Overloaded, Unavailable

IMAGES = np.zeros((2, 28, 28), np.uint8)
OCTET_STREAM = np.full((2, 10), 0.1, "<f4").tobytes()


class Script(ThreadingHTTPServer):
    """A server that gives the answers that it is told to, in order; the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes] | None] = []
        self.asked = 0
        self.connections = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Script

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            self.close_connection = True  # without an answer
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def error(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = f'{{"error": {{"code": "{code}", "message": "said"}}}}'.encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


GOOD = (200, {"content-type": "application/octet-stream"}, OCTET_STREAM)
BUSY = error(429, "overloaded", retry_after="0")


@pytest.fixture(params=["sync", "async"])
def predict(request: pytest.FixtureRequest) -> Any:
    """Predict with a new client of one kind."""

    def sync(url: str, images: np.ndarray = IMAGES, **options: Any) -> np.ndarray:
        with Client(url, **options) as client:
            return client.predict(images)

    def with_asyncio(url: str, images: np.ndarray = IMAGES, **options: Any) -> np.ndarray:
        async def ask() -> np.ndarray:
            async with AsyncClient(url, **options) as client:
                return await client.predict(images)

        return asyncio.run(ask())

    return sync if request.param == "sync" else with_asyncio


@pytest.mark.parametrize("busy", [BUSY, error(503, "unavailable", retry_after="0")])
def test_who_is_asked_to_come_back_comes_back(script: Script, predict: Any, busy: Any) -> None:
    script.answers = [busy, busy, GOOD]
    assert predict(script.url).shape == (2, 10)
    assert script.asked == 3
    assert script.connections == 1


def test_but_not_for_ever(script: Script, predict: Any) -> None:
    script.answers = [error(429, "overloaded", retry_after="1")]
    with pytest.raises(Overloaded, match="said"):
        predict(script.url, retry_s=0.5)
    assert script.asked == 1


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (error(503, "unavailable"), Unavailable),
        (error(503, "unavailable", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), Unavailable),
        (error(400, "bad_length", retry_after="0"), BadLength),
        (error(418, "of_tomorrow"), InputError),
        (error(500, "internal_error", retry_after="0"), FashionMNISTError),
        ((502, {}, b"<html>Bad Gateway</html>"), Unavailable),
        ((200, {}, b"too short"), Unavailable),
        ((200, {}, OCTET_STREAM[:40]), Unavailable),
        ((301, {"location": "/"}, b""), InputError),
    ],
    ids=str,
)
def test_what_will_not_be_better_is_asked_once(script: Script, predict: Any, answer: Any, raised: type) -> None:
    script.answers = [answer]
    with pytest.raises(raised) as caught:
        predict(script.url)
    assert type(caught.value) is raised
    assert script.asked == 1


def test_a_request_that_may_have_been_served_is_not_sent_again(script: Script, predict: Any) -> None:
    script.answers = [None, GOOD]
    with pytest.raises(Unavailable, match="no answer"):
        predict(script.url)
    assert script.asked == 1


def test_a_port_that_nobody_listens_to_is_asked_again_for_a_while(predict: Any) -> None:
    server = Script()
    url = server.url
    server.server_close()
    with pytest.raises(Unavailable, match="no answer from"):
        predict(url, retry_s=0.2)


def test_who_begins_to_listen_meanwhile_is_found(predict: Any) -> None:
    with Script() as server:
        server.answers = [GOOD]
        address = server.server_address
    late = Script.__new__(Script)

    def listen() -> None:
        late.answers, late.asked, late.connections = [GOOD], 0, 0
        ThreadingHTTPServer.__init__(late, address[:2], _Handler)
        late.serve_forever(poll_interval=0.01)

    timer = threading.Timer(0.2, listen)
    timer.start()
    try:
        assert predict(f"http://127.0.0.1:{address[1]}").shape == (2, 10)
    finally:
        late.shutdown()
        timer.join()
        late.server_close()


def test_a_slow_server_is_not_waited_for_longer_than_told(predict: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Unavailable, match=r"timed out|Timeout"),
    ):
        predict(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 28, 28)),
        np.zeros((28, 27), np.uint8),
        np.zeros(784, np.uint8),
        np.zeros((1, 1, 1, 28, 28), np.uint8),
        np.zeros((2, 3, 28, 28), np.uint8),
    ],
    ids=lambda images: f"{images.dtype} {images.shape}",
)
def test_arrays_of_another_kind_are_not_sent(predict: Any, images: np.ndarray) -> None:
    with pytest.raises(BadArray, match="uint8"):
        predict("http://127.0.0.1:9", images)


def test_no_images_are_no_request(predict: Any) -> None:
    assert predict("http://127.0.0.1:9", IMAGES[:0]).shape == (0, 10)
