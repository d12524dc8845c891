"""A sender's connections of gRPC: as many calls at a time as the server allows, over HTTP/2 (RFC 9113).

Only what a unary call needs. We ask the server to keep no table of headers, so the blocks in which answers end are the
same bytes each time, and hpack reads each of them once; the blocks before them are not read.

grpcio's own client takes several times as long for a call: benchmarks/LOG.md.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import ClassVar, Final

import hpack

from fashion_mnist import http2_frames as frames
from loadtest.kinds import Sent
from loadtest.sender import Connection, Query, Sender

MAX_STREAMS: Final = 64
"""At a time on one connection, where the server allows as many."""

STATUSES: Final = {0: 200, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 12: 501, 14: 503, 16: 401}
"""What HTTP calls those statuses of gRPC that our service has; others count as 500.

https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
"""

_CANCEL: Final = 8
_PREFIX: Final = 5
"""Bytes before a message: whether it is compressed, and its length."""

_KNOWN_BLOCKS: Final = 64


@dataclass
class _Unsent:
    """What the server's windows do not take yet of a message."""

    message: memoryview
    window: int


class GRPCConnection(Connection):
    """One of them."""

    max_slots: ClassVar[int] = MAX_STREAMS

    def __init__(self, sender: Sender, slots: int) -> None:
        super().__init__(sender, slots)
        self._queries: dict[int, Query] = {}
        self._bodies: dict[int, list[bytes]] = {}
        self._unsent: dict[int, _Unsent] = {}
        self._buffer = b""
        self._block = b""
        self._block_flags = 0
        self._next = 1
        self._window = self._stream_window = frames.FIRST_WINDOW
        self._received = 0
        self._decoder = hpack.Decoder()
        self._known: dict[bytes, int] = {}

    @staticmethod
    def written(netloc: str, request: Sent) -> bytes:
        """The block of headers with its length before it, then the message with its own."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": request.path,
            ":authority": netloc,
            "content-type": "application/grpc",
            "te": "trailers",
            **{name.lower(): value for name, value in request.headers.items()},
        }
        # Never indexed: the block means the same on every connection.
        block: bytes = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields.items()])
        message = b"\0" + len(request.body).to_bytes(4, "big") + request.body
        return struct.pack(">L", len(block)) + block + message

    def send(self, query: Query, content: bytes) -> None:
        (size,) = struct.unpack_from(">L", content)
        message = memoryview(content)[4 + size :]
        stream, self._next = self._next, self._next + 2
        self._queries[stream], self._bodies[stream] = query, []
        head = (
            frames.HEAD.pack(size >> 16, size & 0xFFFF, frames.HEADERS, frames.END_HEADERS, stream)
            + content[4 : 4 + size]
        )
        length = len(message)
        if length <= frames.FIRST_FRAME and length <= self._window and length <= self._stream_window:
            self._window -= length
            self.transport.write(
                b"".join((head, frames.HEAD.pack(0, length, frames.DATA, frames.END_STREAM, stream), message))
            )
        else:
            self._unsent[stream] = _Unsent(message, self._stream_window)
            self.transport.write(head)
            self._send_unsent()

    def give_up(self, latest: float) -> None:
        for stream in [stream for stream, query in self._queries.items() if query.sent < latest]:
            self._unsent.pop(stream, None)
            self._reset(stream)
            self._end(stream, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ours = {frames.TABLE_SIZE: 0, frames.INITIAL_WINDOW: frames.LARGEST_WINDOW}
        settings = b"".join(struct.pack(">HL", *setting) for setting in ours.items())
        self.transport.write(frames.PREFACE + frames.HEAD.pack(0, len(settings), frames.SETTINGS, 0, 0) + settings)
        self._widen(frames.LARGEST_WINDOW - frames.FIRST_WINDOW)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        position, end = 0, len(data)
        while end - position >= frames.HEAD.size:
            high, low, kind, flags, stream = frames.HEAD.unpack_from(data, position)
            start = position + frames.HEAD.size
            behind = start + (high << 16) + low
            if behind > end:
                break
            self._received += (behind - start) * (kind == frames.DATA)
            self._on_frame(kind, flags, stream & 0x7FFF_FFFF, data[start:behind])
            position = behind
        self._buffer = data[position:]
        if self._received > frames.LARGEST_WINDOW // 2:
            self._widen(self._received)
            self._received = 0

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError("the connection was lost before the server's settings came"))
        for query in self._queries.values():
            self.sender.answered(query, 0, b"")
        self._queries.clear()

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (frames.DATA, frames.HEADERS) and flags & frames.PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if kind == frames.DATA:
            if stream in self._bodies:
                self._bodies[stream].append(payload)
            if flags & frames.END_STREAM:
                self._end(stream, 500)  # without a status
        elif kind == frames.HEADERS:
            self._block_flags = flags
            self._on_block(flags, stream, payload[5:] if flags & frames.WITH_PRIORITY else payload)
        elif kind == frames.CONTINUATION:
            self._on_block(flags, stream, self._block + payload)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._on_settings(dict(struct.iter_unpack(">HL", payload)))
        elif kind == frames.WINDOW_UPDATE:
            size = int.from_bytes(payload, "big")
            if not stream:
                self._window += size
            elif stream in self._unsent:
                self._unsent[stream].window += size
            self._send_unsent()
        elif kind == frames.PING and not flags & frames.ACK:
            self.transport.write(frames.HEAD.pack(0, len(payload), frames.PING, frames.ACK, 0) + payload)
        elif kind == frames.RST_STREAM:
            self._unsent.pop(stream, None)
            self._end(stream, 0)
        elif kind == frames.GOAWAY:
            self._on_goaway(int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF)

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        if not flags & frames.END_HEADERS:
            self._block = block
        elif self._block_flags & frames.END_STREAM:
            self._end(stream, self._status(block))

    def _on_goaway(self, last: int) -> None:
        self.ended = True
        self.sender.drain(self)
        for stream in [stream for stream in self._queries if stream > last]:
            self._end(stream, 0)
        if not self._queries:
            self.transport.abort()

    def _on_settings(self, theirs: dict[int, int]) -> None:
        change = theirs.get(frames.INITIAL_WINDOW, self._stream_window) - self._stream_window
        self._stream_window += change
        for unsent in self._unsent.values():
            unsent.window += change
        self.transport.write(frames.HEAD.pack(0, 0, frames.SETTINGS, frames.ACK, 0))
        self._send_unsent()
        if not self.ready.done():
            self.slots = max(1, min(self.slots, theirs.get(frames.MAX_CONCURRENT_STREAMS, self.slots)))
            self.ready.set_result(None)

    def _status(self, block: bytes) -> int:
        """What the block that ends a call says of it, as HTTP would."""
        if (known := self._known.get(block)) is not None:
            return known
        fields = {field[0]: field[1] for field in self._decoder.decode(block, raw=True)}
        if b"grpc-status" in fields:
            status = STATUSES.get(int(fields[b"grpc-status"]), 500)
        else:
            status = int(fields.get(b":status", b"500"))
        if len(self._known) < _KNOWN_BLOCKS:
            self._known[block] = status
        return status

    def _end(self, stream: int, status: int) -> None:
        """A call is over."""
        query = self._queries.pop(stream, None)
        if self._unsent.pop(stream, None) is not None:
            self._reset(stream)  # the server did not want the rest
        if query is not None:
            body = b"".join(self._bodies.pop(stream))
            self.sender.answered(query, status, body[_PREFIX:])
            self._free()

    def _send_unsent(self) -> None:
        """Send of the messages that wait as much as the server takes."""
        for stream, unsent in list(self._unsent.items()):
            while (size := min(self._window, unsent.window, frames.FIRST_FRAME, len(unsent.message))) > 0:
                part, unsent.message = unsent.message[:size], unsent.message[size:]
                self._window -= size
                unsent.window -= size
                last = 0 if unsent.message else frames.END_STREAM
                self.transport.write(b"".join((frames.HEAD.pack(0, size, frames.DATA, last, stream), part)))
            if not unsent.message:
                del self._unsent[stream]

    def _reset(self, stream: int) -> None:
        """Say that no more is sent, and no answer awaited."""
        self.transport.write(frames.HEAD.pack(0, 4, frames.RST_STREAM, 0, stream) + struct.pack(">L", _CANCEL))

    def _free(self) -> None:
        if not self.ended:
            self.sender.free(self)
        elif not self._queries:
            self.transport.abort()

    def _widen(self, size: int) -> None:
        """Let the server send so many bytes more on this connection."""
        self.transport.write(frames.HEAD.pack(0, 4, frames.WINDOW_UPDATE, 0, 0) + struct.pack(">L", size))
