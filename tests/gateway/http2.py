"""HTTP/2 as frames over a socket: what no well-behaved client would send."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import hpack

TIMEOUT_S = 15.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x4, 0x8, 0x20
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Frame(NamedTuple):
    """A frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """As it goes over the wire."""
        head = struct.pack(">L", len(self.payload))[1:] + struct.pack(">BBL", self.kind, self.flags, self.stream)
        return head + self.payload


class Answer(NamedTuple):
    """What came on one stream."""

    headers: dict[str, str]
    body: bytes
    reset: int | None = None


class Client:
    """A connection that has said hello."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder = hpack.Decoder()
        self._buffer = b""

    def send(self, *frames: Frame) -> None:
        """Send frames."""
        self._socket.sendall(b"".join(frame.to_bytes() for frame in frames))

    def read(self) -> Frame | None:
        """The next frame; None where the server has closed the connection."""
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
            try:
                received = self._socket.recv(65536)
            except ConnectionError:
                received = b""
            if not received:
                return None
            self._buffer += received
        end = 9 + int.from_bytes(self._buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBL", self._buffer[3:9])
        frame, self._buffer = Frame(kind, flags, stream, self._buffer[9:end]), self._buffer[end:]
        return frame

    def read_until(self, kind: int) -> Frame:
        """The next frame of a kind."""
        while (frame := self.read()) is not None:
            if frame.kind == kind:
                return frame
        raise AssertionError(f"no frame of kind {kind} before the end")

    def answers(self, *streams: int) -> dict[int, Answer]:
        """The whole answers of some streams."""
        headers: dict[int, dict[str, str]] = {stream: {} for stream in streams}
        bodies = dict.fromkeys(streams, b"")
        found: dict[int, Answer] = {}
        while found.keys() != set(streams):
            frame = self.read()
            assert frame is not None, f"the connection ended after {found}"
            assert frame.kind != GOAWAY or frame.payload[4:8] == bytes(4), frame
            if frame.stream not in headers or frame.kind not in (DATA, HEADERS, RST_STREAM):
                continue
            if frame.kind == HEADERS:
                headers[frame.stream] |= {str(name): str(value) for name, value in self._decoder.decode(frame.payload)}
            elif frame.kind == DATA:
                bodies[frame.stream] += frame.payload
            reset = int.from_bytes(frame.payload, "big") if frame.kind == RST_STREAM else None
            if reset is not None or frame.flags & END_STREAM:
                found[frame.stream] = Answer(headers[frame.stream], bodies[frame.stream], reset)
        return found


@contextmanager
def connected(port: int, *settings: tuple[int, int]) -> Iterator[Client]:
    """A connection on which hello was said, with some settings."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = b"".join(struct.pack(">HL", *setting) for setting in settings)
        connection.sendall(PREFACE + Frame(SETTINGS, 0, 0, payload).to_bytes())
        yield Client(connection)


def block(path: str = INFER, *more: tuple[str, str], content_type: str = "application/grpc", **changes: str) -> bytes:
    """The header block of a call."""
    pseudo = {"method": "POST", "scheme": "http", "path": path, "authority": "x"}
    fields = [(f":{name}", value) for name, value in {**pseudo, **changes}.items() if value]
    encoder = hpack.Encoder()
    return encoder.encode([*fields, ("content-type", content_type), ("te", "trailers"), *more], huffman=False)


def message(content: bytes) -> bytes:
    """A message with what gRPC puts in front of it."""
    return b"\0" + len(content).to_bytes(4, "big") + content


def call(stream: int, content: bytes, path: str = INFER) -> list[Frame]:
    """The frames of a call."""
    framed = message(content)
    parts = [framed[at : at + 16384] for at in range(0, len(framed), 16384)]
    data = [Frame(DATA, END_STREAM if part is parts[-1] else 0, stream, part) for part in parts]
    return [Frame(HEADERS, END_HEADERS, stream, block(path)), *data]
