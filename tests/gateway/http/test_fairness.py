"""What one client costs the event loop at a time, and that others have their turn meanwhile."""

import base64
import contextlib
import io
import select
import socket
import struct
import threading
from collections.abc import Iterator
from statistics import median

import numpy as np
import pytest
from PIL import Image

from tests.support.command import ServeCommand
from tests.support.http import connected, read_answer, request

IMAGE = bytes(784)
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = request(b"\xff\xd8\xff\xe0")
UPGRADE = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"


class Flood:
    """A client that sends the same bytes over and over, as fast as it is read, and counts the answers."""

    def __init__(self, connection: socket.socket, data: bytes) -> None:
        self.answered = 0
        self._connection = connection
        self._data = data * (256 * 1024 // len(data))
        self._threads = [threading.Thread(target=target) for target in (self._send, self._count)]

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connection.sendall(self._data)

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while received := self._connection.recv(2**20):
                self.answered += received.count(b"HTTP/1.1 ")

    def start(self) -> None:
        """Begin, in threads of its own."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def flood(command: ServeCommand, data: bytes) -> Iterator[Flood]:
    with connected(command.url) as connection:
        flooding = Flood(connection, data)
        flooding.start()
        try:
            yield flooding
        finally:
            flooding.stop()


@pytest.mark.parametrize("data", [HEALTH, BAD, UPGRADE], ids=["health", "refused", "upgrade"])
def test_others_are_answered_between_the_requests_of_a_client_that_pipelines_thousands(
    embedded: ServeCommand, data: bytes
) -> None:
    """One read of the socket holds some 5,000 such requests, a turn some dozens."""
    with flood(embedded, data) as flooding, connected(embedded.url) as connection:
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


def hidden_jpeg(side: int) -> bytes:
    """A JPEG of `side` x `side` that seems to be of 8 x 8 to a reader that takes `FF 00` for the start of a segment.

    libjpeg takes it for stuffing and reads on: it finds the real header, and the one that is shown in a comment.
    """

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    def frame(height: int, width: int) -> bytes:
        return segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0]))

    shown = frame(8, 8)
    hidden = frame(side, side) + b"\xff\xfe" + struct.pack(">H", len(shown) + 2)  # a comment, with what is shown in it
    tables = segment(0xDB, bytes([0]) + bytes([1] * 64))
    huffman = b"".join(segment(0xC4, bytes([kind, 1] + [0] * 15 + [0])) for kind in (0x00, 0x10))
    scan = segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + bytes(200)
    skipped = b"\xff\x00" + struct.pack(">H", len(hidden) + 2) + hidden
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
        + skipped
        + shown
        + tables
        + huffman
        + scan
        + b"\xff\xd9"
    )


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


def photograph(width: int, height: int, *, progressive: bool) -> bytes:
    """A JPEG of soft forms."""
    forms = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(forms).resize((width, height)).save(file, "JPEG", quality=85, progressive=progressive)
    return file.getvalue()


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
