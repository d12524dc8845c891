"""HTTP/2 for clients that choose it by ALPN: the same requests, many at once on one connection.

The library h2 keeps RFC 9113's states and flow control; this module keeps order, limits and time, as
`gateway.connection` does for HTTP/1.1, which is three times as fast and stays what clients get without TLS.
`gateway.http2` is for gRPC alone: it writes frames by itself, as fast as it can, and answers that end in trailers.
"""

import asyncio
import contextlib
import time
from typing import Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from fashion_mnist.errors import BodyTooLarge, FashionMNISTError, Overloaded, RequestTimeout
from fashion_mnist.predictions import Answer
from gateway.connection import (
    BODY_BYTES_PER_S,
    HEADERS,
    IDLE_S,
    LINGER_S,
    Connection,
    Head,
    Request,
    Server,
    grown,
    headers_of,
)
from gateway.patience import FrameHeads, Patience, TooMuch

STREAMS: Final = 128
"""Requests of one connection that may be received or wait for their answers."""

WINDOW_BYTES: Final = 2**20
"""How much of a body may be on its way before we have read it."""

CHATTER: Final = 500
"""Frames without a request or data in them that a client may send between two ticks: each takes the library some 40 us.
See `gateway.patience`."""

_LAST_STREAM: Final = 2**31 - 1
_NEVER: Final = float("inf")


class Stream(Request):
    """A request on an HTTP/2 connection."""

    __slots__ = ("content", "deadline", "ended", "id", "length", "unsent", "whole")

    def __init__(self, connection: "Http2Connection", id: int) -> None:
        # Only HTTP/1.1's own answer, which is replaced below, asks its connection for more than both kinds have.
        super().__init__(cast(Connection, connection), Head())
        self.id = id
        self.content: bytes | bytearray = b""
        self.length = 0
        """Of what it takes of `max_waiting_bytes`: until its answer is there."""
        self.ended = self.whole = False
        """Whether its client has sent all of it, and whether no more of it is taken."""
        self.unsent: memoryview | None = None
        """The rest of the answer's body, from its beginning on."""
        self.deadline = _NEVER

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        if not self.gone:
            cast(Http2Connection, self.connection).send_answer(self, answer, headers)


class Http2Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=False))
        self._streams: dict[int, Stream] = {}
        self._patience = Patience(CHATTER)
        self._frame_heads = FrameHeads(self._patience)
        self._writable = True
        self._told = False  # that no more requests are welcome
        self._idle_since = self._stuck_since = self._block_since = server.now

    # What asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self.server.connections) >= self.server.settings.max_connections:
            self._transport.abort()
            return
        self.server.connections.add(self)
        longest = self._h2.decoder.max_header_list_size = self.server.settings.max_head_bytes
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: longest,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        try:
            self._frame_heads.look(data, len(self._streams))
            for event in self._h2.receive_data(data):
                self._take(event)
        except TooMuch:
            self._close(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        except H2Error:
            # The library has written why. Nothing that follows can be understood.
            self._end()
            return
        self._send_bodies()

    def connection_lost(self, error: Exception | None) -> None:
        self.server.connections.discard(self)
        for stream in list(self._streams.values()):
            self._drop(stream, gone=True)

    def pause_writing(self) -> None:
        # It sends and does not read: no more is taken from it, and it has so long to change its mind.
        self._writable = False
        self._stuck_since = self.server.now
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self._transport.resume_reading()
        self._send_bodies()

    # What the library says

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, ConnectionTerminated):
            self._end()
        elif isinstance(event, DataReceived):
            # Also of a stream that was refused: its bytes have taken from the connection's window.
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if (stream := self._streams.get(event.stream_id)) and not stream.whole:
                self._take_data(stream, event.data)
        elif isinstance(event, StreamEnded):
            if stream := self._streams.get(event.stream_id):
                stream.ended = True
                if not stream.whole:
                    self._finish(stream)
                elif stream.response is not None and stream.unsent is None:
                    self._drop(stream, gone=False)
        elif isinstance(event, StreamReset) and (stream := self._streams.get(event.stream_id)):
            self._drop(stream, gone=True)
            self._patience.reset()

    def _begin(self, event: RequestReceived) -> None:
        self._patience.take_head(0, len(event.headers))
        stream = Stream(self, event.stream_id)
        self._streams[stream.id] = stream
        stream.deadline = self.server.now + self.server.settings.receive_timeout_s
        for name, value in event.headers:
            if name == b":method":
                stream.head.method = value
            elif name == b":path":
                stream.head.url = value
            elif attribute := HEADERS.get(name):
                setattr(stream.head, attribute, value.decode("latin-1"))
        if self.server.admit is not None and (error := self.server.admit(stream.head)) is not None:
            self._refuse(stream, error)
        elif stream.head.content_length.isdecimal():
            length = int(stream.head.content_length)
            self._check_body(stream, length, self.server.waiting_bytes + length)

    def _take_data(self, stream: Stream, data: bytes) -> None:
        stream.content = grown(stream.content, data)
        stream.length += len(data)
        stream.deadline += len(data) / BODY_BYTES_PER_S
        self.server.waiting_bytes += len(data)
        self._check_body(stream, stream.length, self.server.waiting_bytes)

    def _finish(self, stream: Stream) -> None:
        stream.body, stream.content = bytes(stream.content), b""
        stream.received = time.perf_counter()
        stream.whole = True
        stream.deadline = _NEVER
        self.server.handle(stream)

    # What we do

    def send_answer(self, stream: Stream, answer: Answer, headers: bytes) -> None:
        """Send an answer, as far as the client has room for it now."""
        server = self.server
        if stream.head.origin:
            headers += server.cors(stream.head.origin)
        lines = (line.partition(b": ") for line in (answer.headers + headers).split(b"\r\n") if line)
        bodiless = stream.method == b"HEAD" or not answer.body
        stream.response = b""  # it has one
        self._release(stream)
        self._patience.answered += 1
        head = [
            (b":status", str(answer.status).encode()),
            (b"date", server.date),
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            *((name.lower(), value) for name, _, value in lines),
        ]
        try:
            self._h2.send_headers(stream.id, head, end_stream=bodiless)
        except H2Error:
            # Its client took it back in bytes that we have received and not looked at yet.
            self._drop(stream, gone=True)
            return
        if bodiless:
            self._is_sent(stream)
        else:
            stream.unsent = memoryview(answer.body)
            stream.deadline = server.now + server.settings.receive_timeout_s
        self._send_bodies()

    def look_at_the_clock(self) -> None:
        """Refuse what is late, and close the connection where nothing happens on it."""
        self._patience.renew()
        now, settings = self.server.now, self.server.settings
        if not self._writable and now - self._stuck_since >= settings.receive_timeout_s:
            self._transport.abort()
            return
        if not self._frame_heads.in_block:
            self._block_since = now
        elif now - self._block_since >= settings.receive_timeout_s:
            self._close()
            return
        for stream in [stream for stream in self._streams.values() if now >= stream.deadline]:
            if stream.response is None:
                self._refuse(stream, RequestTimeout("the request did not arrive in time: send it faster, or in parts"))
            else:
                # The answer is not read, or is sent and more of the request comes (RFC 9113, 8.1).
                with contextlib.suppress(H2Error):
                    self._h2.reset_stream(stream.id, ErrorCodes.CANCEL if stream.unsent else ErrorCodes.NO_ERROR)
                self._drop(stream, gone=True)
        if self.server.draining and not self._told and not self._transport.is_closing():
            # The library can only say that all is over. We say that no more is welcome; what has begun is answered.
            self._told = True
            self._transport.write(GoAwayFrame(0, last_stream_id=_LAST_STREAM).serialize())
        if not self._streams and now - self._idle_since >= settings.idle_timeout_s:
            self._close()
        else:
            self._flush()

    def close_if_idle(self) -> None:
        """Close the connection where no request is being received or answered, and none was for a while."""
        if not self._streams and self._told and self.server.now - self._idle_since >= IDLE_S:
            self._close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def _send_bodies(self) -> None:
        for stream in [stream for stream in self._streams.values() if stream.unsent is not None]:
            try:
                self._send_body(stream)
            except H2Error:
                self._drop(stream, gone=True)
        self._flush()

    def _send_body(self, stream: Stream) -> None:
        while stream.unsent is not None and self._writable:
            room = min(self._h2.local_flow_control_window(stream.id), self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            last = len(stream.unsent) <= room
            self._h2.send_data(stream.id, bytes(stream.unsent[:room]), end_stream=last)
            stream.unsent = stream.unsent[room:]
            stream.deadline = self.server.more_time(stream.deadline, room)
            self._flush()
            if last:
                self._is_sent(stream)
                return

    def _is_sent(self, stream: Stream) -> None:
        """The answer is. A client that is still sending its request has a while to notice."""
        stream.unsent = None
        if stream.ended:
            self._drop(stream, gone=False)
        else:
            stream.deadline = self.server.now + LINGER_S

    def _check_body(self, stream: Stream, length: int, waiting: int) -> None:
        try:
            self.server.limits.check_body(length)
        except BodyTooLarge as error:
            self._refuse(stream, error)
        else:
            if waiting > self.server.settings.max_waiting_bytes and length:
                message = "as many bodies wait as there is room for: send it again a moment later"
                self._refuse(stream, Overloaded(message))

    def _refuse(self, stream: Stream, error: FashionMNISTError) -> None:
        """Answer what is being received before it is whole, and take no more of it."""
        self.server.on_refusal(error)
        self._release(stream)
        stream.whole = True
        stream.answer_error(error, headers_of(error))

    def _release(self, stream: Stream) -> None:
        self.server.waiting_bytes -= stream.length
        stream.length, stream.content = 0, b""

    def _drop(self, stream: Stream, *, gone: bool) -> None:
        """The stream is over: answered, or its client does not want it any more."""
        self._streams.pop(stream.id, None)
        self._release(stream)
        self._idle_since = self.server.now
        if gone:
            stream.gone = True
            if stream.on_gone is not None:
                stream.on_gone()

    def _flush(self) -> None:
        if (data := self._h2.data_to_send()) and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self, reason: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say that it is over, and why."""
        with contextlib.suppress(H2Error):  # the client has said so already
            self._h2.close_connection(reason)
        self._end()

    def _end(self) -> None:
        self._flush()
        self._transport.close()


class Negotiated(asyncio.Protocol):
    """A connection of which is not known yet what it speaks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        protocol = Http2Connection(self._server) if chosen == "h2" else Connection(self._server)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
