"""HTTP as bytes over a socket: what no well-behaved client would send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 15.0


@dataclass
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to a server."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def request(body: bytes, *headers: str, method: str = "POST", path: str = "/predictions/fashion_mnist") -> bytes:
    """A well-formed request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def read_answers(connection: socket.socket) -> list[Answer]:
    """All answers until the server closes the connection. A reset counts as the end."""
    data = b""
    while True:
        try:
            received = connection.recv(65536)
        except ConnectionResetError:
            break
        if not received:
            break
        data += received
    answers = []
    while data:
        answer, data = parse(data)
        answers.append(answer)
    return answers


def read_answer(connection: socket.socket) -> Answer:
    """The next answer of a connection that stays open."""
    data = b""
    while True:
        received = connection.recv(65536)
        assert received, f"the connection ended after {data!r}"
        data += received
        if b"\r\n\r\n" in data:
            head = data.partition(b"\r\n\r\n")[0].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(data) >= len(head) + 4 + length:
                answer, rest = parse(data)
                assert not rest
                return answer


def parse(data: bytes) -> tuple[Answer, bytes]:
    """The first answer in these bytes, and what comes behind it."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, f"half an answer: {data!r}"
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = int(headers.get("content-length", 0))
    assert len(rest) >= length, f"half an answer: {data!r}"
    return Answer(int(line.split()[1]), headers, rest[:length]), rest[length:]
