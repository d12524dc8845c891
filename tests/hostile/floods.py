"""One client that takes as much as it can get: requests without a pause, and small files that would cost much."""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.support.http import connected, request

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
def flood(url: str, data: bytes) -> Iterator[Flood]:
    """A flood of these bytes, until the block ends."""
    with connected(url) as connection:
        flooding = Flood(connection, data)
        flooding.start()
        try:
            yield flooding
        finally:
            flooding.stop()


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


def photograph(width: int, height: int, *, progressive: bool) -> bytes:
    """A JPEG of soft forms."""
    forms = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(forms).resize((width, height)).save(file, "JPEG", quality=85, progressive=progressive)
    return file.getvalue()
