"""gRPC as HTTP/2 frames over a socket: what no well-behaved client would send."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import grpc

from gateway.protocols import inference_pb2 as pb

TIMEOUT_S = 20.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
ENHANCE_YOUR_CALM = 11
INITIAL_WINDOW = 4
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


class Client:
    """A connection that has sent its preface and has settings from the server."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""
        self.settings = dict(struct.iter_unpack(">HL", self.read_until(SETTINGS).payload))
        """The server's."""

    def send(self, *frames: Frame) -> None:
        """Send frames."""
        self.socket.sendall(b"".join(frame.to_bytes() for frame in frames))

    def read(self) -> Frame | None:
        """The next frame; None where the server has closed the connection. Pings and settings are answered."""
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
            try:
                received = self.socket.recv(65536)
            except ConnectionError:
                received = b""
            if not received:
                return None
            self._buffer += received
        end = 9 + int.from_bytes(self._buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBL", self._buffer[3:9])
        frame, self._buffer = Frame(kind, flags, stream, self._buffer[9:end]), self._buffer[end:]
        if kind in (PING, SETTINGS) and not flags & ACK:
            self.send(frame._replace(flags=ACK, payload=frame.payload if kind == PING else b""))
        return frame

    def read_until(self, kind: int) -> Frame:
        """The next frame of a kind."""
        while (frame := self.read()) is not None:
            if frame.kind == kind:
                return frame
        raise AssertionError(f"no frame of kind {kind} before the end")

    def status(self) -> int:
        """The status of the first call of this connection that ends."""
        while (frame := self.read()) is not None:
            # Not in a table yet, and never in Huffman's code.
            _, found, rest = frame.payload.partition(b"grpc-status")
            if frame.kind == HEADERS and found:
                return int(rest[1 : 1 + rest[0]])
        raise AssertionError("the connection ended before the call")

    def closed(self) -> bool:
        """Whether the server closes the connection, sooner or later."""
        while self.read() is not None:
            continue
        return True


@contextmanager
def connected(port: int, *settings: tuple[int, int]) -> Iterator[Client]:
    """A connection on which both sides have sent their settings."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = b"".join(struct.pack(">HL", *setting) for setting in settings)
        connection.sendall(PREFACE + Frame(SETTINGS, 0, 0, payload).to_bytes())
        yield Client(connection)


def literal(name: bytes, value: bytes) -> bytes:
    """A header that goes into no table; name and value shorter than 16,383 bytes (RFC 7541, 6.2.2)."""
    return b"\x00" + _text(name) + _text(value)


def _text(content: bytes) -> bytes:
    size = len(content)
    if size < 127:
        return bytes([size]) + content
    return bytes([127, (size - 127) & 127 | 128, (size - 127) >> 7]) + content


def block(path: str = INFER, *more: tuple[str, str], **changes: str) -> bytes:
    """The header block of a call."""
    pseudo = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
    fields = [*pseudo.items(), ("content-type", changes.get("content_type", "application/grpc")), ("te", "trailers")]
    return b"".join(literal(name.encode(), value.encode()) for name, value in [*fields, *more])


def head(stream: int, *more: tuple[str, str], path: str = INFER) -> Frame:
    """The frame that begins a call."""
    return Frame(HEADERS, END_HEADERS, stream, block(path, *more))


def message(content: bytes) -> bytes:
    """A message with what gRPC puts in front of it."""
    return b"\0" + len(content).to_bytes(4, "big") + content


def call(stream: int, content: bytes, path: str = INFER) -> list[Frame]:
    """The frames of a call."""
    framed = message(content)
    parts = [framed[at : at + 16384] for at in range(0, len(framed), 16384)]
    data = [Frame(DATA, END_STREAM if part is parts[-1] else 0, stream, part) for part in parts]
    return [head(stream, path=path), *data]


def infer(images: int = 1) -> bytes:
    """A request for so many empty images."""
    request: bytes = pb.ModelInferRequest(
        model_name="fashion_mnist",
        inputs=[{"name": "images", "datatype": "UINT8", "shape": [images, 28, 28]}],
        outputs=[{"name": "probabilities"}],
        raw_input_contents=[bytes(784 * images)],
    ).SerializeToString()
    return request


def answers(port: int, images: int = 1) -> bool:
    """Whether a call on a new connection is answered."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        reply = channel.unary_unary(INFER)(infer(images), timeout=10)
    return len(pb.ModelInferResponse.FromString(reply).raw_output_contents[0]) == 40 * images


FLOODS: dict[str, Callable[[int], list[Frame]]] = {
    "pings": lambda n: [Frame(PING, 0, 0, bytes(8))] * n,
    "settings": lambda n: [Frame(SETTINGS, 0, 0, struct.pack(">HL", INITIAL_WINDOW, 65_535))] * n,
    "calls that are taken back": lambda n: [
        frame for stream in range(1, 2 * n, 2) for frame in (head(stream), Frame(RST_STREAM, 0, stream, bytes(4)))
    ],
    "calls that we are made to take back": lambda n: [
        frame for stream in range(1, 2 * n, 2) for frame in (head(stream), Frame(WINDOW_UPDATE, 0, stream, bytes(4)))
    ],
    "empty data": lambda n: [head(1)] + [Frame(DATA, 0, 1, b"")] * n,
    "empty continuations": lambda n: [Frame(HEADERS, 0, 1, block())] + [Frame(CONTINUATION, 0, 1, b"")] * n,
    "windows": lambda n: [head(1)] + [Frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")] * n,
}
"""Each makes so many frames that cost the server more than their sender."""
