"""HTTP/2 (RFC 9113), as far as gRPC needs it: from a socket to a request, and from an answer back to the socket.

hpack reads header blocks (RFC 7541); this module keeps frames, windows, order, limits and time. docs/protocols.md has
what was measured before it was written.
"""

import asyncio
import logging
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple, cast

import hpack
from hpack.table import HeaderTable

from fashion_mnist import http2_frames as frames
from fashion_mnist.errors import BodyTooLarge, FashionMNISTError, Overloaded, RequestTimeout
from gateway.connection import BODY_BYTES_PER_S, LINGER_S, Server, grown
from gateway.patience import Patience, TooMuch

log = logging.getLogger(__name__)

STREAMS: Final = 256
"""Requests of one connection at a time; a client keeps those beyond to itself."""

CHATTER: Final = 10_000
"""Frames without a request in them that a client may send between two ticks. See `gateway.patience`."""

KNOWN_BLOCKS: Final = 64

WRITE_AT: Final = 4096
"""Bytes of answers that are worth a system call, which costs more than all of our work on an answer; fewer wait for the
event loop's next turn. Were it all answers of a batch, the client would rest while they are written."""


NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB

_ATTRIBUTES: Final = {
    b"authorization": "authorization",
    b"content-type": "content_type",
    b"grpc-encoding": "content_encoding",
    b"grpc-timeout": "timeout",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"x-request-id": "given_id",
}
"""The headers that are read, and the attributes of a stream that they become."""

_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""What HTTP/1.1 says in headers, HTTP/2 says otherwise; RFC 9113, 8.2.2."""


class Broken(Exception):
    """The client breaks the protocol: its connection is at an end."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Headers(NamedTuple):
    """What is read of a header block."""

    method: bytes
    path: bytes
    attributes: list[tuple[str, str]]


class Stream:
    """One request on its way in, and its answer on its way out."""

    __slots__ = (
        "authorization",
        "complete",
        "connection",
        "content",
        "content_encoding",
        "content_type",
        "deadline",
        "given_id",
        "id",
        "length",
        "method",
        "started",
        "tail",
        "timeout",
        "traceparent",
        "tracestate",
        "unsent",
        "url",
        "window",
    )

    def __init__(self, connection: "Connection", stream_id: int, headers: Headers, window: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.method, self.url = headers.method, headers.path
        self.content_type = self.content_encoding = self.given_id = ""
        self.authorization = self.timeout = self.traceparent = self.tracestate = ""
        for attribute, value in headers.attributes:
            setattr(self, attribute, value)
        self.started = time.perf_counter()
        self.content: bytes | bytearray = b""
        self.length = 0
        """Of what it takes of `max_waiting_bytes`: until its answer is there."""
        self.complete = False
        """Whether the client has sent all of it."""
        self.window = window
        self.unsent = memoryview(b"")
        self.tail = b""
        self.deadline = connection.server.now + connection.server.settings.receive_timeout_s

    def begin(self) -> None:
        """Its head is there. Raises FashionMNISTError where no more of it is to be received."""
        raise NotImplementedError

    def arrive(self) -> None:
        """The request is whole: answer it now or later."""
        raise NotImplementedError

    def refuse(self, error: FashionMNISTError) -> None:
        """Answer with an error, whether the request is whole or not."""
        raise NotImplementedError

    def lose(self) -> None:
        """Nobody waits for the answer any more."""
        raise NotImplementedError


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_accept",
        "_block",
        "_block_deadline",
        "_block_flags",
        "_block_stream",
        "_buffer",
        "_decoder",
        "_ended",
        "_frame_size",
        "_known",
        "_last",
        "_leaving",
        "_out",
        "_out_due",
        "_patience",
        "_peer_done",
        "_prefaced",
        "_received",
        "_stream_window",
        "_streams",
        "_table",
        "_transport",
        "_unsent",
        "_window",
        "_writable",
        "deadline",
        "server",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server, accept: "Callable[[Connection, int, Headers, int], Stream]") -> None:
        self.server = server
        self.deadline = server.now + server.settings.receive_timeout_s
        self._accept = accept
        self._decoder = hpack.Decoder(server.settings.max_head_bytes)
        self._decoder.header_table = self._table = _Table()
        self._known: dict[bytes, Headers | None] = {}  # blocks that mean the same for as long as the table does
        self._streams: dict[int, Stream] = {}
        self._unsent: dict[int, Stream] = {}  # those whose answers wait for a window
        self._buffer = b""
        self._block = b""  # of headers, as far as it is there
        self._block_stream = self._block_flags = 0
        self._block_deadline = 0.0
        self._last = 0  # the highest stream that there was
        self._window = self._stream_window = frames.FIRST_WINDOW  # what the client takes
        self._frame_size = frames.FIRST_FRAME
        self._received = 0  # of our own window
        self._patience = Patience(CHATTER)
        self._prefaced = self._leaving = self._peer_done = self._ended = False
        self._writable = True
        self._out = bytearray()  # what was not written yet
        self._out_due = False  # whether it will be by itself

    # What asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        settings = self.server.settings
        if len(self.server.connections) >= settings.max_connections:
            self._ended = True
            self._transport.abort()
            return
        self.server.connections.add(self)
        # A message is refused for its length before it fills the window of its stream.
        ours = {
            frames.MAX_CONCURRENT_STREAMS: STREAMS,
            frames.INITIAL_WINDOW: min(frames.LARGEST_WINDOW, settings.max_body_bytes + frames.FIRST_WINDOW),
            frames.MAX_HEADER_LIST: settings.max_head_bytes,
        }
        self._frame(frames.SETTINGS, 0, 0, b"".join(struct.pack(">HL", *setting) for setting in ours.items()))
        self._frame(frames.WINDOW_UPDATE, 0, 0, (frames.LARGEST_WINDOW - frames.FIRST_WINDOW).to_bytes(4, "big"))

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._buffer:
            data = self._buffer + data
        try:
            position = self._read(data)
        except (Broken, TooMuch) as error:
            self._buffer = b""
            self._break(error.code if isinstance(error, Broken) else ENHANCE_YOUR_CALM)
        else:
            self._buffer = data[position:]

    def eof_received(self) -> bool:
        # A client may close its half and wait for the answers with the other.
        self._peer_done = True
        for stream in [stream for stream in self._streams.values() if not stream.complete]:
            self._forget(stream)
        self._flush()  # with TLS nothing goes out behind this
        if not self._streams:
            self._transport.close()
        # With TLS a connection ends as a whole.
        return self._transport.can_write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self.server.connections.discard(self)
        for stream in list(self._streams.values()):
            self._forget(stream)

    def pause_writing(self) -> None:
        # It sends and does not read: no more is taken from it, and it has so long to change its mind.
        self._writable = False
        self._transport.pause_reading()
        self.deadline = self.server.now + self.server.settings.receive_timeout_s

    def resume_writing(self) -> None:
        self._writable = True
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._send_unsent()
        self._rest()

    # What streams say

    def send(self, stream: Stream, head: bytes, body: bytes = b"", tail: bytes = b"") -> None:
        """Send an answer: a header block alone, or with a body and a block behind it. It ends the stream."""
        if self._streams.get(stream.id) is not stream or self._transport.is_closing():
            return
        if self.server.draining:
            self.leave()
        length = len(body)
        if not length:
            self._frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id, head)
            self._finish(stream)
        elif length <= self._window and length <= stream.window and length <= self._frame_size and self._writable:
            self._window -= length
            out = self._out
            out += frames.HEAD.pack(0, len(head), frames.HEADERS, frames.END_HEADERS, stream.id)
            out += head
            out += frames.HEAD.pack(length >> 16, length & 0xFFFF, frames.DATA, 0, stream.id)
            out += body
            out += frames.HEAD.pack(0, len(tail), frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id)
            out += tail
            self._write()
            self._finish(stream)
        else:
            self._frame(frames.HEADERS, frames.END_HEADERS, stream.id, head)
            stream.unsent, stream.tail = memoryview(body), tail
            stream.deadline = self.server.now + self.server.settings.receive_timeout_s
            self._release(stream)
            self._unsent[stream.id] = stream
            self._send_unsent()

    # What the server says

    def look_at_the_clock(self) -> None:
        """Refuse what does not arrive, drop what is not read, and close the connection where its deadline is over."""
        self._patience.renew()
        now = self.server.now
        for stream in [stream for stream in self._streams.values() if stream.deadline < now]:
            if not stream.complete:
                stream.refuse(RequestTimeout("the request did not arrive in time: send it faster, or in parts"))
            elif stream.id in self._unsent:
                self._reset(stream.id, CANCEL)
                self._forget(stream)
                self._rest()
        if self._block_stream and self._block_deadline < now:
            self._break(NO_ERROR)
        if now < self.deadline:
            return
        if self._ended or not self._writable:
            self._transport.abort()
        elif not self._streams:
            self._end(NO_ERROR)

    def abort(self) -> None:
        """Close the connection at once."""
        self._flush()
        self._transport.abort()

    def leave(self) -> None:
        """Ask for no more requests; those that come all the same are answered."""
        if not self._leaving and not self._ended and not self._transport.is_closing():
            self._leaving = True
            self._frame(frames.GOAWAY, 0, 0, struct.pack(">LL", frames.LARGEST_WINDOW, NO_ERROR))

    def close_if_idle(self) -> None:
        """Close the connection where no request is being received or answered."""
        self.leave()
        if not self._streams and not self._ended:
            self._end(NO_ERROR)

    # Frames that come

    def _read(self, data: bytes) -> int:
        """Take what whole frames there are; where the next one begins. Raises Broken."""
        position, end = 0, len(data)
        if not self._prefaced:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise Broken(PROTOCOL_ERROR)
            if end < len(frames.PREFACE):
                return 0
            self._prefaced = True
            position = len(frames.PREFACE)
            self._rest()
        while end - position >= frames.HEAD.size and not self._ended:
            high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data, position)
            start = position + frames.HEAD.size
            position_behind = start + (high << 16) + low
            if high or low > frames.FIRST_FRAME:
                raise Broken(FRAME_SIZE_ERROR)
            if position_behind > end:
                break
            payload, stream_id = data[start:position_behind], stream_id & 0x7FFF_FFFF
            position = position_behind
            if self._block_stream and (kind != frames.CONTINUATION or stream_id != self._block_stream):
                raise Broken(PROTOCOL_ERROR)
            if kind == frames.DATA:
                self._on_data(flags, stream_id, payload)
            elif kind == frames.HEADERS:
                self._on_headers(flags, stream_id, payload)
            else:
                self._patience.chat()
                if kind in _FURTHER:
                    _FURTHER[kind](self, flags, stream_id, payload)
        return position

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= frames.LARGEST_WINDOW // 2:
            self._frame(frames.WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big"))
            self._received = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            if not 0 < stream_id <= self._last:
                raise Broken(PROTOCOL_ERROR)
            self._patience.take_data(len(payload))
            return  # it was refused, or taken back
        if stream.complete:
            raise Broken(STREAM_CLOSED)
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if payload:
            stream.content = grown(stream.content, payload) if stream.content else payload
            stream.length += len(payload)
            stream.deadline += len(payload) / BODY_BYTES_PER_S
            server = self.server
            server.waiting_bytes += len(payload)
            if stream.length > server.limits.max_body_bytes:
                try:
                    server.limits.check_body(stream.length)
                except BodyTooLarge as error:
                    stream.refuse(error)
                    return
            if server.waiting_bytes > server.settings.max_waiting_bytes:
                stream.refuse(Overloaded("as many bodies wait as there is room for: send it again a moment later"))
                return
        elif not flags & frames.END_STREAM:
            self._patience.chat()
        if flags & frames.END_STREAM:
            self._complete(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise Broken(PROTOCOL_ERROR)
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise Broken(FRAME_SIZE_ERROR)
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._block, self._block_flags, self._block_stream = payload, flags, stream_id
            self._block_deadline = self.server.now + self.server.settings.receive_timeout_s

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_stream:
            raise Broken(PROTOCOL_ERROR)
        self._block += payload
        if len(self._block) > self.server.settings.max_head_bytes:
            raise Broken(ENHANCE_YOUR_CALM)
        if flags & frames.END_HEADERS:
            block, self._block, self._block_stream = self._block, b"", 0
            self._on_block(self._block_flags, stream_id, block)

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        headers = self._decode(block)
        if stream_id <= self._last:
            # Behind a body, where nothing is read from them; or of a stream that is closed already.
            stream = self._streams.get(stream_id)
            if stream is not None:
                if stream.complete or not flags & frames.END_STREAM:
                    raise Broken(PROTOCOL_ERROR)
                self._complete(stream)
            else:
                self._patience.chat()
            return
        self._last = stream_id
        if headers is None:
            self._reset(stream_id, PROTOCOL_ERROR)
            self._patience.reset()
        elif len(self._streams) >= STREAMS:
            self._reset(stream_id, REFUSED_STREAM)
            self._patience.chat()
        else:
            stream = self._streams[stream_id] = self._accept(self, stream_id, headers, self._stream_window)
            stream.complete = bool(flags & frames.END_STREAM)
            try:
                # Before its body is received: who may not ask must not take room from those who may.
                if (admit := self.server.admit) is not None and (error := admit(stream)) is not None:
                    raise error
                stream.begin()
            except FashionMNISTError as error:
                stream.refuse(error)
            else:
                if stream.complete:
                    stream.arrive()

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR)
        if not 0 < stream_id <= self._last:
            raise Broken(PROTOCOL_ERROR)
        if (stream := self._streams.get(stream_id)) is not None:
            self._forget(stream)
            self._rest()
            self._patience.reset()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Broken(PROTOCOL_ERROR)
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise Broken(FRAME_SIZE_ERROR)
        if flags & frames.ACK:
            return
        self._patience.take_settings(len(payload) // 6)
        # Of a setting that is there twice the last value counts (RFC 9113, 6.5.3).
        settings: dict[int, int] = dict(struct.iter_unpack(">HL", payload))
        window = settings.get(frames.INITIAL_WINDOW, self._stream_window)
        frame_size = settings.get(frames.MAX_FRAME, self._frame_size)
        if not 16_384 <= frame_size < 2**24:
            raise Broken(PROTOCOL_ERROR)
        self._frame_size = frame_size
        change, self._stream_window = window - self._stream_window, window
        if change:
            for stream in self._streams.values():
                stream.window += change
        if max([window, *[stream.window for stream in self._streams.values()]]) > frames.LARGEST_WINDOW:
            raise Broken(FLOW_CONTROL_ERROR)
        self._frame(frames.SETTINGS, frames.ACK, 0, b"")
        self._send_unsent()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Broken(FRAME_SIZE_ERROR)
        if stream_id:
            raise Broken(PROTOCOL_ERROR)
        if not flags & frames.ACK:
            self._frame(frames.PING, frames.ACK, 0, payload)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR)
        increment = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if not stream_id:
            self._patience.take_window(len(self._unsent))
            self._window += increment
            if not increment or self._window > frames.LARGEST_WINDOW:
                raise Broken(FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR)
            self._send_unsent()
        elif (stream := self._streams.get(stream_id)) is not None:
            stream.window += increment
            if not increment or stream.window > frames.LARGEST_WINDOW:
                self._reset(stream_id, FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR)
                self._forget(stream)
                self._patience.reset()
            elif stream_id in self._unsent and self._writable:
                self._send_rest(stream)
        elif stream_id > self._last:
            raise Broken(PROTOCOL_ERROR)

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """It will ask no more; when it has its answers it closes the connection."""

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise Broken(PROTOCOL_ERROR)

    # What we do

    def _decode(self, block: bytes) -> Headers | None:
        """What is read of a header block; None where it is malformed as a request. Raises Broken.

        A client says the same over and over, by the same bytes: what they mean is kept until its table changes.
        """
        try:
            return self._known[block]
        except KeyError:
            pass
        self._table.changed = block[:1] != b"" and block[0] & 0xE0 == 0x20  # a new size for it
        try:
            fields = list(self._decoder.decode(block, raw=True))
            headers = _understood([(field[0], field[1]) for field in fields])
        except hpack.OversizedHeaderListError:
            raise Broken(ENHANCE_YOUR_CALM) from None
        except hpack.HPACKError:
            raise Broken(COMPRESSION_ERROR) from None
        self._patience.take_head(len(block), len(fields))
        if self._table.changed or len(self._known) >= KNOWN_BLOCKS:
            self._known.clear()
        if not self._table.changed:
            self._known[block] = headers
        return headers

    def _complete(self, stream: Stream) -> None:
        stream.complete = True
        stream.arrive()

    def _send_unsent(self) -> None:
        """Send of the answers that wait as much as the client takes."""
        for stream in list(self._unsent.values()):
            if self._window <= 0 or not self._writable:
                return
            self._send_rest(stream)

    def _send_rest(self, stream: Stream) -> None:
        """Send of one of them as much as the client takes."""
        while stream.unsent and self._writable:
            size = min(self._window, stream.window, self._frame_size, len(stream.unsent))
            if size <= 0:
                return
            self._window -= size
            stream.window -= size
            self._frame(frames.DATA, 0, stream.id, stream.unsent[:size])
            stream.unsent = stream.unsent[size:]
            stream.deadline = self.server.more_time(stream.deadline, size)
        if not stream.unsent and self._unsent.pop(stream.id, None) is not None:
            self._frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id, stream.tail)
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """A stream's answer is sent."""
        if not stream.complete:
            self._reset(stream.id, NO_ERROR)  # what is missing of its request need not come any more
        del self._streams[stream.id]
        self._patience.answered += 1
        self._release(stream)
        if not self._streams:
            self._rest()
            if self._peer_done:
                self._flush()
                self._transport.close()

    def _forget(self, stream: Stream) -> None:
        """A stream ends without an answer."""
        self._streams.pop(stream.id, None)
        self._unsent.pop(stream.id, None)
        self._release(stream)
        stream.lose()

    def _release(self, stream: Stream) -> None:
        """What was received of a request takes no room any more."""
        self.server.waiting_bytes -= stream.length
        stream.length = 0

    def _rest(self) -> None:
        """Nothing is owed: the next request may come, or the end."""
        if not self._streams and not self._ended:
            self.deadline = self.server.now + self.server.settings.idle_timeout_s

    def _reset(self, stream_id: int, code: int) -> None:
        self._frame(frames.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))

    def _break(self, code: int) -> None:
        """The client cannot be understood any more, or will not be served."""
        for stream in list(self._streams.values()):
            self._forget(stream)
        self._end(code)

    def _end(self, code: int) -> None:
        """Say so, and close our half: a socket that is closed while bytes come in takes back what it has sent."""
        if not self._ended and not self._transport.is_closing():
            self._frame(frames.GOAWAY, 0, 0, struct.pack(">LL", self._last, code))
            self._flush()
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        self._ended = True
        self.deadline = self.server.now + LINGER_S

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes | memoryview) -> None:
        length = len(payload)
        self._out += frames.HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)
        self._out += payload
        self._write()

    def _write(self) -> None:
        """Write what there is, now or in the event loop's next turn."""
        if len(self._out) >= WRITE_AT:
            self._flush()
        elif not self._out_due:
            self._out_due = True
            asyncio.get_running_loop().call_soon(self._flush_due)

    def _flush_due(self) -> None:
        self._out_due = False
        self._flush()

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            out, self._out = self._out, bytearray()
            self._transport.write(out)


_FURTHER: Final[dict[int, Callable[[Connection, int, int, bytes], None]]] = {
    frames.RST_STREAM: Connection._on_reset,
    frames.SETTINGS: Connection._on_settings,
    frames.PUSH_PROMISE: Connection._on_push_promise,
    frames.PING: Connection._on_ping,
    frames.GOAWAY: Connection._on_goaway,
    frames.WINDOW_UPDATE: Connection._on_window_update,
    frames.CONTINUATION: Connection._on_continuation,
}
"""What is done with frames that are neither data nor headers; the rest, priorities and unknown kinds, says nothing."""


class _Table(HeaderTable):
    """A decoder's dynamic table that knows whether it was changed."""

    changed = False

    def add(self, name: bytes, value: bytes) -> None:
        self.changed = True
        super().add(name, value)


def literal(name: bytes, value: bytes) -> bytes:
    """A header as it stands in a block, in no table and not packed (RFC 7541, 6.2.2). `name` is in lower case."""
    return b"\x00" + text(name) + text(value)


def text(content: bytes) -> bytes:
    """A string literal: its length, and the string (RFC 7541, 5.1 and 5.2)."""
    size = len(content)
    if size < 127:
        return _SHORT[size] + content
    size -= 127
    found = [127]
    while size >= 128:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes((*found, size)) + content


_SHORT: Final = [bytes((size,)) for size in range(127)]


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def _understood(fields: list[tuple[bytes, bytes]]) -> Headers | None:
    """A request's headers; None where they are malformed (RFC 9113, 8.2 and 8.3)."""
    pseudo: dict[bytes, bytes] = {}
    attributes: list[tuple[str, str]] = []
    regular = False
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in pseudo or name not in (b":method", b":scheme", b":authority", b":path"):
                return None
            pseudo[name] = value
            continue
        regular = True
        if name != name.lower() or name in _OF_CONNECTIONS:
            return None
        if (attribute := _ATTRIBUTES.get(name)) is not None:
            attributes.append((attribute, value.decode("latin-1")))
    if not {b":method", b":scheme", b":path"} <= pseudo.keys() or not pseudo[b":path"]:
        return None
    return Headers(pseudo[b":method"], pseudo[b":path"], attributes)
