"""HTTP/1.1: from a socket to a request, and from an answer back to the socket.

llhttp, which Node.js uses, reads the bytes (RFC 9112); this module keeps order, limits and time. docs/gateway.md has
what was measured before it was written.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol, cast

import httptools

from fashion_mnist.errors import BodyTooLarge, FashionMNISTError, HeadTooLarge, Overloaded, RequestTimeout
from fashion_mnist.limits import Limits
from fashion_mnist.predictions import Answer
from fashion_mnist.settings import Settings
from gateway.protocols import answer_error

log = logging.getLogger(__name__)

PIPELINED: Final = 16
"""Requests of one connection that may wait for their answers; until then no more of it is read."""

BODY_BYTES_PER_S: Final = 64 * 1024
"""A body that comes slower than this is cut off, once `receive_timeout_s` is over."""

LINGER_S: Final = 2.0
"""How long a refused connection stays open, so that the client, which may still be sending, reads why."""

IDLE_S: Final = 0.5
"""So long after its last answer, or its beginning, no request is on its way to us on a connection."""

TICK_S: Final = 0.25
"""How often deadlines are looked at."""

_HEADERS: Final = {
    b"accept": "accept",
    b"content-encoding": "content_encoding",
    b"content-length": "content_length",
    b"content-type": "content_type",
    b"expect": "expect",
    b"inference-header-content-length": "inference_length",
    b"x-request-id": "request_id",
    b"x-top-k": "top_k",
}
"""The headers that are read, and the attributes of a request that they become."""

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_BARE_400: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER: Final = float("inf")


class Request:
    """One request and, in the end, its answer."""

    __slots__ = (
        "accept",
        "body",
        "connection",
        "content_encoding",
        "content_length",
        "content_type",
        "expect",
        "gone",
        "inference_length",
        "keep_alive",
        "method",
        "on_gone",
        "received",
        "request_id",
        "response",
        "started",
        "top_k",
        "url",
    )

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.started = self.received = time.perf_counter()
        self.method = self.url = self.body = b""
        self.content_type = self.accept = self.content_length = self.expect = self.top_k = self.request_id = ""
        self.content_encoding = self.inference_length = ""
        self.keep_alive = True
        self.gone = False
        """Whether nobody waits for the answer any more."""
        self.response: bytes | None = None
        self.on_gone: Callable[[], None] | None = None
        """Called when that comes to be."""

    def answer(self, answer: Answer, headers: str = "") -> None:
        """Send the answer as soon as those of earlier requests are sent; `headers` are whole lines.

        To be called once, on the event loop. Where the client is gone it does nothing.
        """
        server = self.connection.server
        if server.draining:
            self.connection.let_end_with(self)
        head = (
            f"{_STATUS_LINES[answer.status]}Date: {server.date}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n{answer.headers}{headers}{_END if self.keep_alive else _CLOSE}"
        ).encode("latin-1")
        self.response = head if self.method == b"HEAD" else head + answer.body
        self.connection.send_answers()

    def answer_error(self, error: FashionMNISTError, headers: str = "") -> None:
        """Send an error, in the words of the protocol that was asked."""
        self.answer(answer_error(self.url, error), headers)


RETRY_AFTER: Final = "Retry-After: 1\r\n"
_END: Final = "\r\n"
_CLOSE: Final = "Connection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client's connection. Requests are answered in the order in which they came."""

    __slots__ = (
        "_began",
        "_bytes",
        "_chunks",
        "_head_bytes",
        "_length",
        "_lingering",
        "_parser",
        "_reading",
        "_request",
        "_requests",
        "_stopped",
        "_transport",
        "_writable",
        "deadline",
        "server",
    )

    _transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.deadline = server.now + server.settings.idle_timeout_s
        self._parser = httptools.HttpRequestParser(self)
        self._requests: deque[Request] = deque()  # received, in order, and not answered yet
        self._request: Request | None = None  # the one that is being received
        self._chunks: list[bytes] = []  # of its body
        self._length = 0  # of its body, as far as it is there
        self._head_bytes = 0
        self._bytes = 0  # of it altogether, those aside that came with its first
        self._began = False  # whether it began in the bytes that are being read
        self._stopped = False  # no more requests are read
        self._lingering = False  # the last answer is sent
        self._reading = self._writable = True

    # What asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if len(self.server.connections) >= self.server.settings.max_connections:
            self._stopped = True
            self._transport.abort()
        else:
            self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        self._began = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # To another protocol, which we may pass over (RFC 9110, 7.8). The request was whole and is being answered.
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            # Nothing that follows can be understood.
            if not self._stopped:
                self._refuse(_BARE_400)
            return
        if self._request is not None and not self._began:
            # A header or a chunk's length without an end: the parser keeps them to itself until they are whole.
            self._bytes += len(data)
            if self._bytes - 8 * self._length > self.server.settings.max_head_bytes:
                self._refuse_head()

    def eof_received(self) -> bool:
        # A client may close its half and wait for the answers with the other.
        self._stopped = True
        self._forget()
        if not self._requests:
            self._transport.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._stopped = True
        self._forget()
        self.server.connections.discard(self)
        for request in self._requests:
            self.server.waiting_bytes -= len(request.body)
            request.gone = True
            if request.on_gone is not None:
                request.on_gone()
        self._requests.clear()

    def pause_writing(self) -> None:
        # It sends and does not read: no more is taken from it, and it has so long to change its mind.
        self._writable = False
        self._regulate()
        self.deadline = self.server.now + self.server.settings.receive_timeout_s

    def resume_writing(self) -> None:
        self._writable = True
        self._regulate()
        self._rest()

    # What the parser says

    def on_message_begin(self) -> None:
        self._request = Request(self)
        self._began = True
        self._length = self._head_bytes = self._bytes = 0
        self.deadline = self.server.now + self.server.settings.receive_timeout_s

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.url += url
            self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None:
            return
        self._head_bytes += len(name) + len(value)
        if attribute := _HEADERS.get(name.lower()):
            setattr(request, attribute, value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0"
        if self._head_bytes > self.server.settings.max_head_bytes:
            self._refuse_head()
        elif request.content_length:
            # The parser has seen to it that it is a number, the only one, and not beside chunks.
            length = int(request.content_length)
            self._check_body(length, self.server.waiting_bytes + length)
        if request.expect and request.expect.lower() == "100-continue" and not self._stopped:
            self._transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        if self._request is None:
            return
        self._chunks.append(chunk)
        self._length += len(chunk)
        self.server.waiting_bytes += len(chunk)
        self.deadline += len(chunk) / BODY_BYTES_PER_S
        self._check_body(self._length, self.server.waiting_bytes)

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            return
        self._request = None
        if chunks := self._chunks:
            request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._chunks = []
        request.received = time.perf_counter()
        self.deadline = _NEVER
        self._requests.append(request)
        if not request.keep_alive:
            self._stopped = True
        self._regulate()
        self.server.handle(request)

    # What we do

    def send_answers(self) -> None:
        """Send the answers that are there, up to the first that is not."""
        if self._transport.is_closing():
            return
        while self._requests and (response := self._requests[0].response) is not None:
            self.server.waiting_bytes -= len(self._requests.popleft().body)
            self._transport.write(response)
        if self._stopped and not self._requests:
            self._end()
        else:
            self._regulate()
            self._rest()

    def let_end_with(self, request: Request) -> None:
        """Close the connection behind a request's answer, unless others came behind it already."""
        if self._requests and self._requests[-1] is request and self._request is None:
            request.keep_alive = False
            self._stopped = True

    def look_at_the_clock(self) -> None:
        """Close the connection where its deadline is over."""
        if self.server.now < self.deadline:
            return
        if self._lingering or not self._writable:
            self._transport.abort()
        elif self._request is not None:
            self._refuse_with(RequestTimeout("the request did not arrive in time: send it faster, or in parts"))
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Close the connection where no request is being received or answered, and none came for a while."""
        idle_since = self.deadline - self.server.settings.idle_timeout_s
        if self._request is None and not self._requests and self.server.now - idle_since >= IDLE_S:
            self._transport.close()

    def _rest(self) -> None:
        """Nothing is owed: the next request may come, or the end."""
        if not self._requests and self._request is None:
            self.deadline = self.server.now + self.server.settings.idle_timeout_s

    def _regulate(self) -> None:
        """Read no more from a client that sends faster than it is answered, or than it reads."""
        reading = self._writable and len(self._requests) < PIPELINED
        if reading != self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _end(self) -> None:
        """The last answer is sent."""
        if self._lingering:
            # A socket that is closed while bytes come in takes back what it has sent. So only our half is closed now.
            self._transport.write_eof()
            self.deadline = self.server.now + LINGER_S
        else:
            self._transport.close()

    def _refuse_head(self) -> None:
        limit = self.server.settings.max_head_bytes
        self._refuse_with(HeadTooLarge(f"the head is longer than {limit:,} bytes: send fewer or shorter headers"))

    def _check_body(self, length: int, waiting: int) -> None:
        if length > self.server.limits.max_body_bytes:
            try:
                self.server.limits.check_body(length)
            except BodyTooLarge as error:
                self._refuse_with(error)
        elif waiting > self.server.settings.max_waiting_bytes and length:
            self._refuse_with(Overloaded("as many bodies wait as there is room for: send it again a moment later"))

    def _refuse_with(self, error: FashionMNISTError) -> None:
        answer = answer_error(self._request.url if self._request else b"", error)
        self.server.on_refusal(error)
        retry = RETRY_AFTER if isinstance(error, Overloaded) else ""
        head = (
            f"{_STATUS_LINES[answer.status]}Date: {self.server.date}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n{retry}{_CLOSE}"
        )
        self._refuse(head.encode() + answer.body)

    def _refuse(self, response: bytes) -> None:
        """Answer what is being received before it is whole, and read no further."""
        self._forget()
        self._stopped = self._lingering = True
        self.deadline = _NEVER
        request = Request(self)
        request.response = response
        self._requests.append(request)
        self.send_answers()

    def _forget(self) -> None:
        """Drop what was received of a request."""
        self.server.waiting_bytes -= sum(map(len, self._chunks))
        self._chunks = []
        self._request = None


class Connected(Protocol):
    """A client's connection, of whichever version of HTTP, as the server sees it."""

    def look_at_the_clock(self) -> None:
        """Close the connection where its deadline is over."""

    def abort(self) -> None:
        """Close the connection at once."""

    def close_if_idle(self) -> None:
        """Close the connection where no request is being received or answered."""


class Server:
    """The connections of one process, and what they share."""

    def __init__(self, settings: Settings, handle: Callable[[Request], None]) -> None:
        self.settings = settings
        self.limits = Limits.from_settings(settings)
        self.connections: set[Connected] = set()
        self.waiting_bytes = 0
        """Bytes of bodies that are being received or wait for their answers."""
        self.draining = False
        """Whether each answer is the last one of its connection."""
        self.on_refusal: Callable[[FashionMNISTError], None] = lambda error: None
        self._handle = handle
        self._ticking: asyncio.Task[None] | None = None
        self._tick()

    def handle(self, request: Request) -> None:
        """A request is there: it is answered now or later."""
        try:
            self._handle(request)
        except Exception:
            log.exception("a request could not be handled")
            if request.response is None:
                error = FashionMNISTError("the request failed, which is not your fault: report it")
                request.answer_error(error)

    def start(self) -> None:
        """Begin to watch deadlines."""
        self._ticking = asyncio.get_running_loop().create_task(self._watch())

    def stop(self) -> None:
        """Close every connection, answered or not."""
        if self._ticking:
            self._ticking.cancel()
        for connection in list(self.connections):
            connection.abort()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick()
            for connection in list(self.connections):
                connection.look_at_the_clock()

    def _tick(self) -> None:
        # Once for all: a call to the clock for each request would be a call too many.
        self.now = time.monotonic()
        self.date = formatdate(usegmt=True)
