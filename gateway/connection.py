"""HTTP/1.1: from a socket to a request, and from an answer back to the socket.

llhttp, which Node.js uses, reads the bytes (RFC 9112); this module keeps order, limits and time. docs/gateway.md has
what was measured before it was written.
"""

import asyncio
import io
import itertools
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import httptools

from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import (
    BodyTooLarge,
    FashionMNISTError,
    Forbidden,
    HeadTooLarge,
    InputError,
    Overloaded,
    RequestTimeout,
    Unauthorized,
    Unavailable,
)
from fashion_mnist.predictions import Answer
from fashion_mnist.settings import Settings
from gateway.cors import Cors
from gateway.protocols import answer_error

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

PIPELINED: Final = 16
"""Requests of one connection that may wait for their answers; until then no more of it is read."""

BODY_BYTES_PER_S: Final = 64 * 1024
"""A body that comes slower than this is cut off, once `receive_timeout_s` is over; so is a last answer that goes so."""

LINGER_S: Final = 2.0
"""How long a connection stays half open behind its last answer, for a client that may still be sending to read it."""

IDLE_S: Final = 1.0
"""So long after its last answer, or its beginning, no request is on its way to us on a connection."""

TICK_S: Final = 0.25
"""How often deadlines are looked at."""

TURN_S: Final = 0.001
"""How long the event loop works for one connection before the others have their turn."""

SLICE_BYTES: Final = 1024
"""Parsed between two looks at the clock: 56 requests at most, or 170 chunks of a body, each of some microseconds."""

KNOWN_HEADS: Final = 512
KNOWN_HEAD_BYTES: Final = 1024
"""How many heads are kept that came before, and how long one may be."""

HEADERS: Final = {
    b"accept": "accept",
    b"authorization": "authorization",
    b"content-encoding": "content_encoding",
    b"content-length": "content_length",
    b"content-type": "content_type",
    b"expect": "expect",
    b"host": "host",
    b"inference-header-content-length": "inference_length",
    b"origin": "origin",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"transfer-encoding": "transfer_encoding",
    b"x-prepare": "prepare",
    b"x-request-id": "request_id",
    b"x-top-k": "top_k",
}
"""The headers that are read, and the attributes of a head that they become."""

_LISTS: Final = frozenset({"accept", "transfer_encoding", "tracestate"})
"""Of those, the ones whose lines are parts of one list (RFC 9110, 5.3)."""

_ONCE: Final = frozenset(
    {"authorization", "content_encoding", "content_type", "host", "inference_length", "prepare", "top_k"}
)
"""And the ones of which a second line would leave open what is meant."""

_HOST: Final = re.compile(r"([\w.~!$&'()*+,;=%-]*|\[[\da-fA-F:.]+\])(:\d*)?", re.ASCII)
"""Host and port (RFC 9110, 7.2)."""

_ABSOLUTE: Final = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_ESCAPED: Final = re.compile(rb"%([2-7][0-9A-Fa-f])")
_KEPT_ESCAPED: Final = b"#%/?\x7f"

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BARE_400: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_NEVER: Final = float("inf")
_NOTHING: Final = memoryview(b"")


class Head:
    """What a request's first line and its headers say.

    Clients send the same head over and over, and requests with the same share one object: whatever follows from a head
    alone is found out once.
    """

    __slots__ = (
        "accept",
        "authorization",
        "content_encoding",
        "content_length",
        "content_type",
        "expect",
        "host",
        "inference_length",
        "keep_alive",
        "method",
        "origin",
        "plan",
        "prepare",
        "repeated",
        "request_id",
        "route",
        "top_k",
        "traceparent",
        "tracestate",
        "transfer_encoding",
        "url",
    )

    def __init__(self) -> None:
        self.method = self.url = b""
        self.content_type = self.accept = self.content_length = self.expect = self.top_k = self.prepare = (
            self.request_id
        ) = ""
        self.content_encoding = self.inference_length = self.transfer_encoding = ""
        self.authorization = self.origin = self.traceparent = self.tracestate = ""
        self.host: str | None = None
        self.repeated = ""
        """A header that has two lines and may have one."""
        self.keep_alive = True
        self.plan: Any = None
        """What its protocol makes of it, once that is known."""
        self.route: Callable[[Request], None] | None = None
        """What answers such requests, once that is known."""


class Request:
    """One request and, in the end, its answer."""

    __slots__ = (
        "_request_id",
        "body",
        "connection",
        "gone",
        "head",
        "keep_alive",
        "on_gone",
        "origin",
        "received",
        "response",
        "span",
        "started",
    )

    def __init__(self, connection: "Connection", head: Head, body: bytes = b"") -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.started = self.received = time.perf_counter()
        self.keep_alive = head.keep_alive
        self._request_id = b""
        self.span: Span | None = None
        """Where it is traced."""
        self.gone = False
        """Whether nobody waits for the answer any more."""
        self.response: bytes | None = None
        self.on_gone: Callable[[], None] | None = None
        """Called when that comes to be."""

    expires: Final = _NEVER
    """When nobody waits for the answer any more: that is not said in HTTP."""

    @property
    def url(self) -> bytes:
        """Path and query."""
        return self.head.url

    @property
    def method(self) -> bytes:
        """GET, POST and so on."""
        return self.head.method

    @property
    def traceparent(self) -> str:
        """Its caller's span, as https://www.w3.org/TR/trace-context/ writes it."""
        return self.head.traceparent

    @property
    def tracestate(self) -> str:
        """More of that."""
        return self.head.tracestate

    @property
    def request_id(self) -> bytes:
        """Its name in answers and logs."""
        if not self._request_id:
            self._request_id = request_id(self.head.request_id)
        return self._request_id

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send the answer as soon as those of earlier requests are sent; `headers` are whole lines.

        To be called once, on the event loop. Where the client is gone it does nothing.
        """
        server = self.connection.server
        if server.draining:
            self.connection.let_end_with(self)
        lines = headers if self.keep_alive else headers + _CLOSE
        if self.head.origin:
            lines += server.cors(self.head.origin)
        self.response = server.response(answer, lines, with_body=self.head.method != b"HEAD")
        self.connection.send_answers()

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send an error, in the words of the protocol that was asked."""
        self.answer(answer_error(self.url, error), headers)


def headers_of(error: FashionMNISTError) -> bytes:
    """What an error says in the head of its answer, as whole lines."""
    if isinstance(error, Overloaded | Unavailable):
        return b"Retry-After: 1\r\n"
    if isinstance(error, Unauthorized | Forbidden):
        return f"WWW-Authenticate: {challenge(error)}\r\n".encode()
    return b""


def challenge(error: FashionMNISTError) -> str:
    """What a refused client is asked for (RFC 6750, 3)."""
    return 'Bearer realm="fashion_mnist"' + (', error="insufficient_scope"' if isinstance(error, Forbidden) else "")


def request_id(given: str) -> bytes:
    """The name of a request: what the client calls it, where that can be one, or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given.encode()
    return _NAME % next(_NUMBERS)


_CLOSE: Final = b"Connection: close\r\n"
_ANSWER: Final = b"%bDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n%b"
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")
_NAME: Final = f"{os.urandom(4).hex()}-%x".encode()
_NUMBERS: Final = itertools.count()


class Connection(asyncio.Protocol):
    """One client's connection. Requests are answered in the order in which they came."""

    __slots__ = (
        "_began",
        "_bytes",
        "_content",
        "_head_bytes",
        "_in_head",
        "_length",
        "_lingering",
        "_new_head",
        "_parser",
        "_parsing",
        "_passing",
        "_reading",
        "_request",
        "_requests",
        "_stopped",
        "_transport",
        "_turn_due",
        "_unparsed",
        "_writable",
        "_write_deadline",
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
        self._content: bytes | io.BytesIO = b""  # of its body
        self._length = 0  # of its body, as far as it is there
        self._head_bytes = 0
        self._new_head = b""  # of the request that begins in the bytes that are being read, where it stands whole there
        self._bytes = 0  # of it altogether, those aside that were parsed with its first
        self._began = False  # whether it began in the bytes that are being parsed
        self._parsing = False  # answers are sent when that is over
        self._unparsed = _NOTHING  # of what was received: it waits for its turn
        self._turn_due = False
        self._stopped = False  # no more requests are read
        self._lingering = False  # the last answer is sent
        self._reading = self._writable = True
        self._write_deadline = _NEVER  # for a client that does not read
        self._in_head = False  # of the request that is being received
        self._passing = False  # over a head that is told again

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
        if self._unparsed:
            self._keep(memoryview(bytes(self._unparsed) + data))
            return
        end = 0
        if self._request is None:
            # Between two requests. Where one comes whole, with a head that came before, all is known.
            found = data.find(_HEAD_END)
            end = found + len(_HEAD_END) if found >= 0 else 0
            head = self.server.known_heads.get(data[:end])
            if head is not None and len(data) - end == int(head.content_length):
                self._receive_known(head, data[end:])
                return
        self._new_head = data[:end]
        self._parse(memoryview(data), end)

    def eof_received(self) -> bool:
        # Who hangs up looks like who closes only one half, and what nobody waits for shall not be computed.
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._stopped = True
        self._forget()
        self._keep(_NOTHING)
        self.server.connections.discard(self)
        for request in self._requests:
            self.server.waiting_bytes -= len(request.body)
            request.gone = True
            if request.on_gone is not None:
                request.on_gone()
        self._requests.clear()

    def pause_writing(self) -> None:
        # It does not read, or slowly: no more is taken from it, and it has so long for what is there, as for a body.
        self._writable = False
        left = self._transport.get_write_buffer_size()
        self._write_deadline = self.server.now + self.server.settings.receive_timeout_s + left / BODY_BYTES_PER_S
        self._regulate()

    def resume_writing(self) -> None:
        self._writable = True
        self._write_deadline = _NEVER
        self._regulate()
        self._rest()

    # What the parser says

    def on_message_begin(self) -> None:
        if self._stopped or self._passing:
            # What comes behind the last request in the same bytes is not read (RFC 9112, 9.6).
            return
        self._request = Request(self, Head())
        self._began = self._in_head = True
        self._length = self._head_bytes = self._bytes = 0
        self.deadline = self.server.now + self.server.settings.receive_timeout_s

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.head.url += url
            self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None:
            return
        self._head_bytes += len(name) + len(value)
        if not self._in_head:
            return  # behind a body in chunks: what stands there means nothing to us (RFC 9110, 6.5.1)
        if attribute := HEADERS.get(name.lower()):
            text, before = value.decode("latin-1"), getattr(request.head, attribute)
            if before is not None and attribute in _ONCE and (before or attribute == "host"):
                request.head.repeated = name.decode("latin-1")
            setattr(request.head, attribute, f"{before}, {text}" if before and attribute in _LISTS else text)

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        self._in_head = False
        head = request.head
        head.method = self._parser.get_method()
        version = self._parser.get_http_version()
        head.keep_alive = self._parser.should_keep_alive() and version != "1.0"
        request.keep_alive = head.keep_alive
        head.url = normalised(head.url)
        if self._head_bytes > self.server.settings.max_head_bytes:
            self._refuse_head()
        elif (malformed := _malformed(head, version)) is not None:
            self._refuse_with(malformed)
        elif self.server.admit is not None and (error := self.server.admit(head)) is not None:
            # Before its body is received: who may not ask must not take room from those who may.
            self._refuse_with(error)
        elif head.content_length:
            # The parser has seen to it that it is a number, the only one, and not beside chunks.
            length = int(head.content_length)
            self._check_body(length, self.server.waiting_bytes + length)
        asks = head.expect and head.expect.lower() == "100-continue" and version == "1.1"
        if asks and not self._stopped and not self._requests:  # answers come in order, this one too
            self._transport.write(_CONTINUE)
        if not self._stopped:
            self.server.know(self._new_head, head)
        self._new_head = b""

    def on_body(self, chunk: bytes) -> None:
        if self._request is None:
            return
        self._content = grown(self._content, chunk)
        self._length += len(chunk)
        self.server.waiting_bytes += len(chunk)
        self.deadline += len(chunk) / BODY_BYTES_PER_S
        self._check_body(self._length, self.server.waiting_bytes)

    def on_message_complete(self) -> None:
        request = self._request
        if request is None or (self._parser.should_upgrade() and _has_body(request.head)):
            return  # in the latter case its body is still to come: see _pass_over_upgrade
        self._request = None
        request.body = self._content if isinstance(self._content, bytes) else self._content.getvalue()
        self._content, self._length = b"", 0
        request.received = time.perf_counter()
        if not request.keep_alive:
            self._stopped = True
        self._receive(request)

    # What we do

    def _parse(self, data: memoryview, head_bytes: int = 0) -> None:
        """Parse what was received, for one turn; what is left of it then has the next one.

        `head_bytes` is the length of the request head that it begins with, where that is known.
        """
        until = time.perf_counter() + TURN_S
        self._parsing = True
        while data:
            size = self._slice_bytes(head_bytes)
            self._keep(data[size:])
            head_bytes = 0
            data = data[self._parse_slice(data[:size]) :]
            self._write_answers()
            if self._stopped or not self._takes_more() or time.perf_counter() > until:
                break
        self._parsing = False
        self._keep(_NOTHING if self._stopped else data)
        self.send_answers()

    def _keep(self, data: memoryview) -> None:
        """Keep what is not parsed yet; it counts as bodies do."""
        self.server.waiting_bytes += len(data) - len(self._unparsed)
        self._unparsed = data

    def _parse_rest(self) -> None:
        self._turn_due = False
        if self._unparsed and self._takes_more() and not self._stopped and not self._transport.is_closing():
            self._parse(self._unparsed)

    def _slice_bytes(self, head_bytes: int) -> int:
        """How much is parsed at once: a whole head, or a whole body, is cheap where it comes in one piece."""
        request = self._request
        if request is not None and not self._in_head and request.head.content_length:
            return max(int(request.head.content_length) - self._length, SLICE_BYTES)
        return head_bytes if 0 < head_bytes < SLICE_BYTES else SLICE_BYTES

    def _parse_slice(self, data: memoryview) -> int:
        """Parse some bytes; how many of them."""
        self._began = False
        parsed = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # To another protocol, which we may pass over (RFC 9110, 7.8): what follows is HTTP/1.1 as before.
            parsed = upgrade.args[0]
            try:
                self._pass_over_upgrade()
            except httptools.HttpParserError:
                self._refuse_bare()
        except httptools.HttpParserError:
            # Nothing that follows can be understood.
            self._refuse_bare()
        if self._request is not None and not self._began:
            # A header or a chunk's length without an end: the parser keeps them to itself until they are whole.
            self._bytes += parsed
            if self._bytes - 8 * self._length > self.server.settings.max_head_bytes:
                self._refuse_head()
        return parsed

    def _pass_over_upgrade(self) -> None:
        """Read on behind a head that asks for another protocol.

        httptools takes all that follows such a head for the other protocol. It is the request's body, if it has one,
        and then the next request: a new parser reads on from there.
        """
        self._parser = httptools.HttpRequestParser(self)
        request = self._request
        if request is not None:
            head = request.head
            lines = ["POST / HTTP/1.1"]
            if head.transfer_encoding:
                lines.append(f"Transfer-Encoding: {head.transfer_encoding}")
            if head.content_length:
                lines.append(f"Content-Length: {head.content_length}")
            # A head that was read already, of which only what frames the body is told again.
            self._request, self._passing = None, True
            self._parser.feed_data("\r\n".join([*lines, "", ""]).encode("latin-1"))
            self._request, self._passing = request, False

    def _refuse_bare(self) -> None:
        if not self._stopped:
            self._refuse(_BARE_400)

    def _receive_known(self, head: Head, body: bytes) -> None:
        """Take a request that came whole. Its head was parsed and found good when it first came."""
        request = Request(self, head, body)
        # Its key may have been revoked since.
        if self.server.admit is not None and (error := self.server.admit(head)) is not None:
            self._request = request
            self._refuse_with(error)
            return
        self.server.waiting_bytes += len(body)
        if body and self.server.waiting_bytes > self.server.settings.max_waiting_bytes:
            self._check_body(len(body), self.server.waiting_bytes)
            self.server.waiting_bytes -= len(body)
        else:
            self._receive(request)

    def _receive(self, request: Request) -> None:
        self.deadline = _NEVER
        self._requests.append(request)
        if len(self._requests) >= PIPELINED and not self._parsing:
            self._regulate()
        self.server.handle(request)

    def send_answers(self) -> None:
        """Send the answers that are there, up to the first that is not."""
        if self._parsing or self._transport.is_closing():
            return
        self._write_answers()
        if not self._reading or self._unparsed or len(self._requests) >= PIPELINED:
            self._regulate()
        if self._stopped and not self._requests:
            self._end()
        else:
            self._rest()

    def _write_answers(self) -> None:
        """Write them in one piece: a write is what an answer costs most."""
        answers = []
        while self._requests and (response := self._requests[0].response) is not None:
            self.server.waiting_bytes -= len(self._requests.popleft().body)
            answers.append(response)
        if answers and not self._transport.is_closing():
            self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))

    def let_end_with(self, request: Request) -> None:
        """Close the connection behind a request's answer, unless others came behind it already."""
        last = self._requests and self._requests[-1] is request and self._request is None
        if last and not self._unparsed:
            request.keep_alive = False
            self._stopped = True

    def look_at_the_clock(self) -> None:
        """Close the connection where its deadline is over."""
        now = self.server.now
        if now >= self._write_deadline or (self._lingering and now >= self.deadline):
            self._transport.abort()
        elif now < self.deadline or self._unparsed:
            return
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
        idle = self._request is None and not self._requests and not self._unparsed and not self._lingering
        if idle and self.server.now - idle_since >= IDLE_S:
            self._transport.close()

    def _rest(self) -> None:
        """Nothing is owed: the next request may come, or the end."""
        if not self._requests and self._request is None and not self._lingering:
            self.deadline = self.server.now + self.server.settings.idle_timeout_s

    def _takes_more(self) -> bool:
        """Whether so few answers are owed that further requests are parsed."""
        return self._writable and len(self._requests) < PIPELINED

    def _regulate(self) -> None:
        """Read no more from a client that sends faster than it is answered, or than it reads."""
        takes_more = self._takes_more()
        if takes_more and self._unparsed and not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._parse_rest)
        reading = takes_more and not self._unparsed
        if reading != self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _end(self) -> None:
        """The last answer is sent."""
        if not self._transport.can_write_eof():
            self._transport.close()
        else:
            # A socket that is closed while bytes come in may take back what it has sent (RFC 9112, 9.6). So only our
            # half is closed now, and the client closes the other. What is still on its way to it gets its time, too.
            self._lingering = True
            left = self._transport.get_write_buffer_size()
            self._transport.write_eof()
            self.deadline = self.server.now + LINGER_S + left / BODY_BYTES_PER_S

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
        origin = self._request.head.origin if self._request else ""
        headers = headers_of(error) + (self.server.cors(origin) if origin else b"")
        self._refuse(self.server.response(answer, headers + _CLOSE))

    def _refuse(self, response: bytes) -> None:
        """Answer what is being received before it is whole, and read no further."""
        self._forget()
        self._stopped = True
        self.deadline = _NEVER
        request = Request(self, Head())
        request.response = response
        self._requests.append(request)
        self.send_answers()

    def _forget(self) -> None:
        """Drop what was received of a request."""
        self.server.waiting_bytes -= self._length
        self._content, self._length = b"", 0
        self._request = None


def grown(body: bytes | io.BytesIO, part: bytes) -> bytes | io.BytesIO:
    """A body and one more part of it. Parts may be of a few bytes: a list of them would take many times their room.

    BytesIO keeps what is written in a bytes object, which it grows in place and gives away without a copy.
    """
    if not body:
        return part
    if isinstance(body, bytes):
        first, body = body, io.BytesIO()
        body.write(first)
    body.write(part)
    return body


class Asking(Protocol):
    """A request whose head is there, or a call whose metadata are."""

    authorization: str
    method: bytes
    url: bytes


def normalised(target: bytes) -> bytes:
    """A request's target as paths are looked up here: without scheme and host (RFC 9112, 3.2.2), and without escapes
    that say nothing (RFC 3986, 6.2.2); those stay that would part the path elsewhere.
    """
    if found := _ABSOLUTE.match(target):
        target = target[found.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if b"%" not in target:
        return target
    path, mark, query = target.partition(b"?")
    return _ESCAPED.sub(_unescaped, path) + mark + query


def _unescaped(escape: "re.Match[bytes]") -> bytes:
    byte = bytes([int(escape[1], 16)])
    return escape[0] if byte in _KEPT_ESCAPED else byte


def _malformed(head: Head, version: str) -> InputError | None:
    """What is wrong with a request by RFC 9112, as far as llhttp leaves that to the server."""
    if version not in ("1.0", "1.1"):
        return InputError("the request is not of HTTP/1.1 or 1.0: send it by one of these")
    if head.repeated:
        return InputError(f"two lines of the header {head.repeated[:40]!r}: send one")
    if head.host is None and version == "1.1":
        return InputError("no Host header: HTTP/1.1 asks for one")
    if head.host and not _HOST.fullmatch(head.host):
        return InputError(f"the Host header is {head.host[:80]!r}: send host:port")
    if head.transfer_encoding and (head.transfer_encoding.lower() != "chunked" or version == "1.0"):
        return InputError(
            f"transfer-encoding {head.transfer_encoding[:40]!r} in HTTP/{version}: send the body chunked, as it is, "
            "or with its length"
        )
    return None


def _has_body(head: Head) -> bool:
    return bool(head.transfer_encoding or (head.content_length and int(head.content_length)))


class Server:
    """The connections of one process, and what they share."""

    def __init__(self, settings: Settings, handle: Callable[[Request], None]) -> None:
        self.settings = settings
        self.limits = Limits.from_settings(settings)
        self.connections: set[Connection] = set()
        self.handshakes = 0
        """Clients that have connected, and are no connections yet."""
        self.known_heads: dict[bytes, Head] = {}
        """Heads that came before, by their bytes: of requests that can be told by their head and their length alone."""
        self.waiting_bytes = 0
        """Bytes of bodies that are being received or wait for their answers."""
        self.draining = False
        """Whether each answer is the last one of its connection."""
        self.on_refusal: Callable[[FashionMNISTError], None] = lambda error: None
        self.admit: Callable[[Asking], FashionMNISTError | None] | None = None
        """Why a request with this head is not received any further, if it is not; None lets everybody in."""
        self.cors = Cors(settings.cors_origins).headers
        self._handle = handle
        self._ticking: asyncio.Task[None] | None = None
        self._tick()

    def response(self, answer: Answer, headers: bytes, *, with_body: bool = True) -> bytes:
        """An answer as it goes over the wire; `headers` are whole lines."""
        return _ANSWER % (
            _STATUS_LINES[answer.status],
            self.date,
            answer.content_type.encode(),
            len(answer.body),
            answer.headers,
            headers,
            answer.body if with_body else b"",
        )

    def know(self, data: bytes, head: Head) -> None:
        """Keep a head that was parsed from these bytes, where what follows it is told by its content length alone."""
        # The bytes begin with it, not with the empty lines that may come before a request.
        plain = data.startswith(head.method) and head.method in (b"POST", b"PUT") and head.content_length.isdigit()
        # One that names its request, or its caller's span, never comes again.
        odd = head.transfer_encoding or head.expect or head.request_id or head.traceparent or not head.keep_alive
        if plain and not odd and len(data) <= KNOWN_HEAD_BYTES:
            if len(self.known_heads) >= KNOWN_HEADS:
                self.known_heads.clear()
            self.known_heads[data] = head

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

    def tend(self, what: Callable[[Connection], None]) -> None:
        """Do something with each connection. One that fails at it is cut off, and the others have their turn."""
        for connection in list(self.connections):
            try:
                what(connection)
            except Exception:
                log.exception("a connection failed, and was cut off")
                self.connections.discard(connection)
                connection.abort()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick()
            self.tend(lambda connection: connection.look_at_the_clock())

    def _tick(self) -> None:
        # Once for all: a call to the clock for each request would be a call too many.
        self.now = time.monotonic()
        self.date = formatdate(usegmt=True).encode()
