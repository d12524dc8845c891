"""What one client costs the event loop at a time, and that others have their turn meanwhile."""

import base64
import contextlib
import select
import socket
import threading
from statistics import median

import pytest

from tests.hostile.floods import BAD, HEALTH, IMAGE, UPGRADE, flood, hidden_jpeg, photograph
from tests.support.command import ServeCommand
from tests.support.http import connected, read_answer, request


@pytest.mark.parametrize("data", [HEALTH, BAD, UPGRADE], ids=["health", "refused", "upgrade"])
def test_others_are_answered_between_the_requests_of_a_client_that_pipelines_thousands(
    embedded: ServeCommand, data: bytes
) -> None:
    """One read of the socket holds some 5,000 such requests, a turn some dozens."""
    with flood(embedded.url, data) as flooding, connected(embedded.url) as connection:
        meanwhile = []
        for _ in range(30):
            before = flooding.answered
            connection.sendall(request(IMAGE))
            assert read_answer(connection).status == 200
            meanwhile.append(flooding.answered - before)
    assert flooding.answered > 0
    assert median(meanwhile) < 1000, meanwhile


def all_answers(connection: socket.socket, data: bytes, count: int) -> bytes:
    """What comes for these bytes, up to so many good answers; they are sent meanwhile."""
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    found = b""
    while found.count(b"HTTP/1.1 200 ") < count or not found.endswith(b"}"):
        received = connection.recv(65536)
        assert received, f"closed after {found.count(b'HTTP/1.1 200 ')} answers"
        found += received
    sender.join(10)
    return found


def test_one_read_of_many_requests_is_answered_whole_and_in_order(embedded: ServeCommand) -> None:
    count = 5000
    requests = [
        f"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: {place}\r\n\r\n".encode() for place in range(count)
    ]
    with connected(embedded.url) as connection:
        all_answers(connection, b"".join(requests), count)
        connection.sendall(request(IMAGE))
        assert read_answer(connection).status == 200


def test_predictions_in_one_read_are_answered_whole_and_in_order(embedded: ServeCommand) -> None:
    count = 400
    requests = [request(IMAGE, f"X-Request-Id: {place}") for place in range(count)]
    with connected(embedded.url) as connection:
        found = all_answers(connection, b"".join(requests), count)
    names = [line.partition(b"\r\n")[0] for line in found.split(b"X-Request-Id: ")[1:]]
    assert names == [b"%d" % place for place in range(count)]


def test_a_body_in_chunks_of_one_byte_is_read(embedded: ServeCommand) -> None:
    head = b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(embedded.url) as connection:
        all_answers(connection, head + b"1\r\n\0\r\n" * 784 * 20 + b"0\r\n\r\n" + request(IMAGE), 2)


@pytest.mark.parametrize("repeats", [1, 40])
def test_a_small_file_that_hides_a_large_frame_is_refused(embedded: ServeCommand, repeats: int) -> None:
    """The right status is any refusal; what counts is that nothing was decoded."""
    before = embedded.gateway().memory_info().rss
    body = hidden_jpeg(32_000)
    with connected(embedded.url) as connection:
        for _ in range(repeats):
            connection.sendall(request(body))
            assert read_answer(connection).status in (400, 413, 422)
        encoded = b'"' + base64.b64encode(body) + b'"'
        connection.sendall(request(encoded, "Content-Type: application/json"))
        assert read_answer(connection).status in (400, 413, 422)
    assert embedded.gateway().memory_info().rss - before < 64 * 2**20


def test_small_photograph_is_answered_before_most_of_the_large_ones_in_front_of_it(embedded: ServeCommand) -> None:
    count = 10
    large, small = photograph(4000, 3000, progressive=True), photograph(600, 400, progressive=False)
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(connected(embedded.url)) for _ in range(count)]
        connection = stack.enter_context(connected(embedded.url))
        for other in others:
            other.sendall(request(large))
        assert select.select(others, [], [], 15)[0], "none of the large ones is answered"
        connection.sendall(request(small))
        assert read_answer(connection).status == 200
        answered = len(select.select(others, [], [], 0)[0])
        assert answered <= count // 2
        assert {read_answer(other).status for other in others} <= {200, 429}
