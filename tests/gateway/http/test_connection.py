"""The front private_socket: HTTP that is odd, broken, slow or hostile, sent as bytes."""

import base64
import contextlib
import json
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_mnist.encoding import encode_image
from fashion_mnist.model_store import HEALTH_IMAGE
from gateway.http.server import LINGER_S
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.http import TIMEOUT_S, connected, parse, read_answer, read_answers, request

IMAGE = bytes(784)
UPGRADE = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    """A gateway whose limits are small enough to be reached."""
    small = {"RECEIVE_TIMEOUT_S": "1", "IDLE_TIMEOUT_S": "2", "MAX_BODY_BYTES": "100000", "MAX_HEADER_BYTES": "4096"}
    small |= {"MAX_CONNECTIONS": "50"}
    environment = {f"FASHION_MNIST_{name}": value for name, value in small.items()}
    with serve_command(tmp_path_factory.mktemp("strict"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        yield command


def answers(command: ServeCommand, model_store: Path) -> bool:
    """Whether it still predicts the label of the health-check image."""
    response = httpx.post(command.url, content=(model_store / HEALTH_IMAGE[0]).read_bytes(), timeout=10)
    return bool(response.json()["predictions"][0]["label"] == HEALTH_IMAGE[1])


def gauge(command: ServeCommand, name: str) -> float:
    """A metric without labels."""
    text = httpx.get(f"http://127.0.0.1:{command.state().admin_port}/metrics", timeout=10).text
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])


def images_computed(command: ServeCommand) -> float:
    """Images that the engine has answered, as far as they are counted."""
    return gauge(command, "serving_batch_images_sum")


def images_waiting(command: ServeCommand) -> float:
    """Images in line."""
    return gauge(command, "serving_queued_images")


def test_a_connection_is_kept(embedded: ServeCommand) -> None:
    with connected(embedded.url) as connection:
        for _ in range(3):
            connection.sendall(request(IMAGE))
            assert read_answer(connection).status == 200


def test_pipelined_requests_are_answered_in_order(embedded: ServeCommand) -> None:
    bodies = [IMAGE, IMAGE[:-1], b"", IMAGE * 3, b"\xff\xd8\xff\xe0"] * 20
    with connected(embedded.url) as connection:
        requests = [request(body, f"X-Request-Id: {place}") for place, body in enumerate(bodies)]
        requests[-1] = request(bodies[-1], f"X-Request-Id: {len(bodies) - 1}", "Connection: close")
        connection.sendall(b"".join(requests))
        found = read_answers(connection)
    assert [answer.headers["x-request-id"] for answer in found] == [str(place) for place in range(len(bodies))]
    assert [answer.status for answer in found] == [200, 400, 400, 200, 400] * 20


def test_a_request_may_come_byte_by_byte(embedded: ServeCommand) -> None:
    with connected(embedded.url) as connection:
        for byte in request(b"\x00" * 784):
            connection.send(bytes([byte]))
        assert read_answer(connection).status == 200


def test_a_body_may_come_in_chunks(embedded: ServeCommand) -> None:
    head = b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(embedded.url) as connection:
        connection.sendall(
            head + b"300\r\n" + bytes(0x300) + b"\r\n10;why=not\r\n" + bytes(16) + b"\r\n0\r\nA: b\r\n\r\n"
        )
        assert read_answer(connection).status == 200


def test_who_expects_to_be_asked_is_asked(embedded: ServeCommand) -> None:
    with connected(embedded.url) as connection:
        whole = request(IMAGE, "Expect: 100-continue")
        connection.sendall(whole[:-784])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(IMAGE)
        assert read_answer(connection).status == 200


def test_http_1_0_is_answered_and_closed(embedded: ServeCommand) -> None:
    with connected(embedded.url) as connection:
        connection.sendall(request(IMAGE, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
        (answer,) = read_answers(connection)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


def test_who_goes_on_sending_behind_the_last_request_still_reads_its_answer(embedded: ServeCommand) -> None:
    with connected(embedded.url) as connection:
        connection.sendall(request(IMAGE, "Connection: close"))
        assert connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
        for _ in range(20):
            connection.sendall(bytes(10_000))  # to a socket that is closed this would be a reset
        connection.shutdown(socket.SHUT_WR)
        assert [answer.status for answer in read_answers(connection)] == [200]


def test_who_hangs_up_is_not_computed_for(embedded: ServeCommand) -> None:
    images, before = 16_000, images_computed(embedded)
    for _ in range(5):
        with connected(embedded.url) as connection:
            connection.sendall(request(bytes(784 * images)))
    # What was in line before them has been answered when this one is.
    assert httpx.post(embedded.url, content=IMAGE, timeout=20).status_code == 200
    wait_until(lambda: images_waiting(embedded) == 0, "an empty line", 10)
    assert images_computed(embedded) - before < 5 * images / 2


def test_what_comes_behind_the_last_request_harms_nobody(embedded: ServeCommand) -> None:
    """The first one ends the connection; the second one, in the same bytes, is not answered, and in nobody's way."""
    last = b"GET /nothing HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(httpx.post, embedded.url, content=IMAGE, timeout=10) for _ in range(200)]
        for _ in range(50):
            with connected(embedded.url) as connection:
                connection.sendall(last + request(IMAGE))
                assert [answer.status for answer in read_answers(connection)] == [404]
        assert {sent.result().status_code for sent in good} == {200}


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_request_that_asks_for_another_protocol_is_read_as_it_is(embedded: ServeCommand, protocol: str) -> None:
    """Its body is its body: not a request of its own, and not lost."""
    asks = ("Connection: Upgrade", f"Upgrade: {protocol}")
    hidden = request(b"", method="GET", path="/health/live")
    chunks = b"310\r\n" + IMAGE + b"\r\n0\r\n\r\n"
    chunked = request(b"", *asks, "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"") + chunks
    for _ in range(2):  # the second time its head is known
        with connected(embedded.url) as connection:
            connection.sendall(request(IMAGE, *asks) + chunked + request(hidden, *asks) + request(IMAGE))
            connection.sendall(request(b"", "Connection: close"))
            assert [answer.status for answer in read_answers(connection)] == [200, 200, 400, 200, 400]


def test_a_flood_of_upgrades_is_answered(embedded: ServeCommand) -> None:
    count = 3000
    with connected(embedded.url) as connection:
        sender = threading.Thread(target=connection.sendall, args=(UPGRADE * count,))
        sender.start()
        found = b""
        while found.count(b"HTTP/1.1 404 ") < count:
            received = connection.recv(65536)
            assert received, f"closed after {found.count(b'HTTP/1.1 404 ')} answers"
            found += received
        sender.join(10)
        connection.sendall(request(IMAGE))
        assert read_answer(connection).status == 200


def test_what_stands_behind_a_body_changes_nothing(embedded: ServeCommand) -> None:
    head = b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(embedded.url) as connection:
        connection.sendall(
            head + b"310\r\n" + IMAGE + b"\r\n0\r\nX-Top-K: 1\r\nAccept: application/octet-stream\r\n\r\n"
        )
        answer = read_answer(connection)
    assert len(json.loads(answer.body)["predictions"][0]["probabilities"]) == 10


def test_a_slow_reader_of_a_last_answer_gets_all_of_it(strict: ServeCommand) -> None:
    address = urlsplit(strict.url)
    image = encode_image(np.zeros((28, 28), np.uint8), "WEBP", lossless=True)
    body = json.dumps([base64.b64encode(image).decode()] * 1500).encode()
    with socket.socket() as connection:
        # Little room on the way: what is not read is left to the server.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.settimeout(TIMEOUT_S)
        connection.connect((address.hostname, address.port))
        connection.sendall(request(body, "Content-Type: application/json", "Connection: close"))
        found, started = b"", time.monotonic()
        hung_up = select.poll()
        hung_up.register(connection, 0)  # a reset and its like, which are always told
        # Longer than a connection lingers that has nothing more to send.
        while time.monotonic() - started < LINGER_S + 1:
            found += connection.recv(4096)
            assert not hung_up.poll(50), f"reset after {len(found):,} bytes"
        while received := connection.recv(65536):
            found += received
    answer, rest = parse(found)
    assert (answer.status, rest) == (200, b"")
    assert len(json.loads(answer.body)["predictions"]) == 1500


def test_head_is_answered_without_a_body(embedded: ServeCommand) -> None:
    url = embedded.url.replace("/predictions/fashion_mnist", "/health/live")
    response = httpx.head(url, timeout=10)
    assert response.status_code == 200
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/predictions/fashion_mnist", 405, "method_not_allowed"),
        ("POST", "/health/ready", 405, "method_not_allowed"),
        ("POST", "/predictions/mnist", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "//", 404, "not_found"),
        ("GET", "/%00", 404, "not_found"),
        ("POST", "/predictions/fashion_mnist?topk=3", 400, "bad_parameter"),
        ("POST", "/predictions/fashion_mnist?top_k=0", 400, "bad_parameter"),
        ("POST", "/predictions/fashion_mnist?top_k=", 400, "bad_parameter"),
        ("POST", "/predictions/fashion_mnist?top_k", 400, "bad_parameter"),
        ("POST", "/predictions/fashion_mnist?top_k=%F0%9F%98%80", 400, "bad_parameter"),
    ],
)
def test_what_is_not_there_is_said(embedded: ServeCommand, method: str, path: str, status: int, code: str) -> None:
    with connected(embedded.url) as connection:
        connection.sendall(request(IMAGE if method == "POST" else b"", method=method, path=path))
        answer = read_answer(connection)
    assert answer.status == status
    assert json.loads(answer.body)["error"]["code"] == code


MALFORMED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\nContent-Length: 3\r\n\r\n",
    "two equal lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\nContent-Length: 784\r\n\r\n",
    "chunked and a length": b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, identity\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a length of words": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    "a length past all": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "a chunk of words": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 784\r\n\r\n",
    "a folded header": b"POST / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a bare line feed": b"POST / HTTP/1.1\nHost: x\n\n",
    "a zero byte in a header": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "HTTP/2's first words": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an upgrade": b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_http_gets_one_answer_at_most(embedded: ServeCommand, model_store: Path, data: bytes) -> None:
    """A bare 400, a close, or one reading; never two, of which a proxy in front would take one for somebody else's."""
    with connected(embedded.url) as connection:
        # A second request behind it must not be taken for one of its own, unless the first was read as one.
        connection.sendall(data + request(b"", method="GET", path="/smuggled"))
        with contextlib.suppress(OSError):  # it may be closed by now
            connection.shutdown(socket.SHUT_WR)
        found = read_answers(connection)
    assert [answer.status for answer in found] in ([], [400], [404], [404, 404])
    if len(found) == 1:
        assert found[0].headers["connection"] == "close"
    assert answers(embedded, model_store)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"POST / HTTP/1.1\r\n", b"GET /health/live HTTP/1.1\r\nHost: x\r\n"])
)
def test_whatever_bytes_come_the_door_stays_open(embedded: ServeCommand, noise: bytes, start: bytes) -> None:
    with connected(embedded.url) as connection:
        connection.sendall(start + noise)
        connection.shutdown(socket.SHUT_WR)
        assert all(answer.status in (200, 400, 404, 405, 431) for answer in read_answers(connection))
    assert httpx.get(embedded.url.replace("/predictions/fashion_mnist", "/health/live"), timeout=10).status_code == 200


class TestLimits:
    def test_a_long_head(self, strict: ServeCommand, model_store: Path) -> None:
        with connected(strict.url) as connection:
            connection.sendall(request(b"", "A: " + "b" * 5000))
            (answer,) = read_answers(connection)
        assert answer.status == 431
        assert json.loads(answer.body)["error"]["code"] == "head_too_large"
        assert answers(strict, model_store)

    @pytest.mark.parametrize(
        ("start", "more"),
        [
            (b"GET /", b"a" * 10_000),
            (b"GET / HTTP/1.1\r\nA: ", b"a" * 10_000),
            (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 1000),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"a" * 10_000),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=", b"a" * 10_000),
        ],
        ids=["path", "header", "headers", "trailer", "chunk extension"],
    )
    def test_what_has_no_end_is_refused_and_not_kept(
        self, strict: ServeCommand, model_store: Path, start: bytes, more: bytes
    ) -> None:
        before = strict.gateway().memory_info().rss
        with connected(strict.url) as connection:
            connection.sendall(start)
            try:
                for _ in range(5000):
                    connection.sendall(more)
            except (BrokenPipeError, ConnectionResetError):
                pass
            else:
                assert [answer.status for answer in read_answers(connection)] == [431]
        assert strict.gateway().memory_info().rss - before < 20 * 2**20
        assert answers(strict, model_store)

    def test_a_long_body_is_refused_before_it_is_sent(self, strict: ServeCommand) -> None:
        with connected(strict.url) as connection:
            connection.sendall(b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
            answer = read_answer(connection)
        assert answer.status == 413
        assert json.loads(answer.body)["error"]["code"] == "body_too_large"

    def test_who_sends_a_long_body_nevertheless_gets_to_read_why(self, strict: ServeCommand) -> None:
        with connected(strict.url) as connection:
            connection.sendall(request(bytes(1_000_000)))
            (answer,) = read_answers(connection)
        assert answer.status == 413

    def test_a_long_body_in_chunks(self, strict: ServeCommand) -> None:
        head = b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with connected(strict.url) as connection:
            connection.sendall(head + (b"2710\r\n" + bytes(10_000) + b"\r\n") * 11)
            (answer,) = read_answers(connection)
        assert answer.status == 413

    @pytest.mark.parametrize(
        "start", [b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nA: ", request(bytes(784))[:-700]]
    )
    def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(self, strict: ServeCommand, start: bytes) -> None:
        with connected(strict.url) as connection:
            connection.sendall(start)
            connection.settimeout(0.2)
            started, found = time.monotonic(), b""
            while not found:
                assert time.monotonic() - started < 5, "still being received"
                connection.send(b"a")
                try:
                    found = connection.recv(1000)
                except TimeoutError:
                    continue
        assert found.startswith(b"HTTP/1.1 408 ")

    def test_a_connection_without_a_request_is_closed(self, strict: ServeCommand) -> None:
        with connected(strict.url) as never, connected(strict.url) as once:
            once.sendall(request(IMAGE))
            assert read_answer(once).status == 200
            assert read_answers(once) == []
            assert read_answers(never) == []

    def test_a_client_that_does_not_read_is_cut_off(self, strict: ServeCommand, model_store: Path) -> None:
        with connected(strict.url) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(0.5)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:
                    try:
                        connection.sendall(request(bytes(784 * 20)) * 16)
                    except TimeoutError:
                        continue
        assert answers(strict, model_store)

    def test_one_connection_too_many_is_closed(self, strict: ServeCommand, model_store: Path) -> None:
        held = [socket.create_connection(("127.0.0.1", int(httpx.URL(strict.url).port or 0)), 10) for _ in range(50)]
        try:
            with connected(strict.url) as connection:
                assert read_answers(connection) == []
        finally:
            for connection in held:
                connection.close()
        wait_until(lambda: answers(strict, model_store), "an answer", 10)


def test_ten_thousand_idle_connections_change_nothing(embedded: ServeCommand, model_store: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = int(httpx.URL(embedded.url).port or 0)
    held: list[socket.socket] = []
    try:
        held.extend(socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(count))
        assert answers(embedded, model_store)
        assert len(embedded.gateway().net_connections()) > count
    finally:
        for connection in held:
            # Reset rather than closed, so that ten thousand ports need not wait.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert answers(embedded, model_store)
