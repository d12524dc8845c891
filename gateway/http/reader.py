"""Parses the bytes of a connection into requests.

llhttp, the parser of Node.js, does it (RFC 9112); this module enforces the limits on what is received.
"""

import io
import time
from typing import Final, Protocol

import httptools

from fashion_mnist.errors import BodyTooLarge, FashionMNISTError, HeadTooLarge, Overloaded
from gateway.http.rules import HEADERS, LISTS, ONCE, has_body, malformed, normalised
from gateway.http.server import BUFFERS_FULL, Server
from gateway.types.request import Head, Request

BODY_BYTES_PER_S: Final = 64 * 1024
"""A client that sends its body more slowly than this is refused after `receive_timeout_s`; the same rate applies to a
client that reads its last answer."""

SLICE_BYTES: Final = 1024
"""Parsed between two checks of the clock: at most 56 requests, or 170 chunks of a body, at some microseconds each."""


class Receiver(Protocol):
    """The connection whose bytes are parsed."""

    deadline: float
    stopped: bool

    def receive(self, request: Request) -> None:
        """Handle a complete request."""

    def refuse(self, error: FashionMNISTError) -> None:
        """Answer the request that is being received with an error, and read no further."""

    def refuse_malformed(self) -> None:
        """Answer bytes that are not HTTP/1.1, and read no further."""

    def send_continue(self) -> None:
        """Tell a client that sent `Expect: 100-continue` to send its body."""


class Reader:
    """Parses the requests of one connection, in slices."""

    __slots__ = (
        "_began",
        "_bytes",
        "_connection",
        "_content",
        "_head_bytes",
        "_in_head",
        "_length",
        "_parser",
        "_reparsing",
        "_server",
        "new_head",
        "request",
    )

    def __init__(self, connection: Receiver, server: Server) -> None:
        self._connection = connection
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self.request: Request | None = None
        """The request that is being received."""
        self.new_head = b""
        """The head of the request that begins in the current bytes, if they contain all of it."""
        self._content: bytes | io.BytesIO = b""  # the body
        self._length = 0  # of the body so far
        self._head_bytes = 0
        self._bytes = 0  # of the whole request, without the slice in which it began
        self._began = False  # whether it began in the current slice
        self._in_head = False
        self._reparsing = False  # a head that was handled already

    # What the connection calls

    def slice_bytes(self, head_bytes: int) -> int:
        """How many bytes to parse at once: a whole head or body is cheap if it arrives in one piece."""
        request = self.request
        if request is not None and not self._in_head and request.head.content_length:
            return max(int(request.head.content_length) - self._length, SLICE_BYTES)
        return head_bytes if 0 < head_bytes < SLICE_BYTES else SLICE_BYTES

    def parse(self, data: memoryview) -> int:
        """Parse some bytes, and return how many of them were parsed."""
        self._began = False
        parsed = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # A request to upgrade may be ignored (RFC 9110, 7.8): what follows is still HTTP/1.1.
            parsed = upgrade.args[0]
            try:
                self._ignore_upgrade()
            except httptools.HttpParserError:
                self._connection.refuse_malformed()
        except httptools.HttpParserError:
            self._connection.refuse_malformed()
        if self.request is not None and not self._began:
            # The parser reports a header or a chunk's length only once it is complete, which it may never be.
            self._bytes += parsed
            if self._bytes - 8 * self._length > self._server.settings.max_header_bytes:
                self._refuse_head()
        return parsed

    def receive_cached(self, head: Head, body: bytes) -> None:
        """Handle a complete request whose head was parsed and checked before."""
        server = self._server
        request = Request(self._connection, head, body)  # type: ignore[arg-type]
        # The key may have been revoked since.
        if server.admit is not None and (error := server.admit(head)) is not None:
            self.request = request
            self._connection.refuse(error)
            return
        server.buffered_bytes += len(body)
        if body and server.buffered_bytes > server.settings.max_buffered_bytes:
            self._check_body(len(body), server.buffered_bytes)
            server.buffered_bytes -= len(body)
        else:
            self._connection.receive(request)

    def forget(self) -> None:
        """Drop the request that is being received."""
        self._server.buffered_bytes -= self._length
        self._content, self._length = b"", 0
        self.request = None

    # What the parser calls

    def on_message_begin(self) -> None:
        connection = self._connection
        if connection.stopped or self._reparsing:
            # Bytes after the last request are ignored (RFC 9112, 9.6).
            return
        self.request = Request(connection, Head())  # type: ignore[arg-type]
        self._began = self._in_head = True
        self._length = self._head_bytes = self._bytes = 0
        connection.deadline = self._server.now + self._server.settings.receive_timeout_s

    def on_url(self, url: bytes) -> None:
        if self.request is not None:
            self.request.head.url += url
            self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self.request
        if request is None:
            return
        self._head_bytes += len(name) + len(value)
        if not self._in_head:
            return  # a trailer of a chunked body, which is ignored (RFC 9110, 6.5.1)
        if attribute := HEADERS.get(name.lower()):
            text, before = value.decode("latin-1"), getattr(request.head, attribute)
            if before is not None and attribute in ONCE and (before or attribute == "host"):
                request.head.repeated = name.decode("latin-1")
            setattr(request.head, attribute, f"{before}, {text}" if before and attribute in LISTS else text)

    def on_headers_complete(self) -> None:
        request = self.request
        if request is None:
            return
        self._in_head = False
        server, head = self._server, request.head
        head.method = self._parser.get_method()
        version = self._parser.get_http_version()
        head.keep_alive = self._parser.should_keep_alive() and version != "1.0"
        request.keep_alive = head.keep_alive
        head.url = normalised(head.url)
        if self._head_bytes > server.settings.max_header_bytes:
            self._refuse_head()
        elif (error := malformed(head, version)) is not None:
            self._connection.refuse(error)
        elif server.admit is not None and (refusal := server.admit(head)) is not None:
            # Before its body is received, so that refused clients take nothing of the budget for bodies.
            self._connection.refuse(refusal)
        elif head.content_length:
            # The parser has checked that it is a single number, without a transfer encoding.
            length = int(head.content_length)
            self._check_body(length, server.buffered_bytes + length)
        if head.expect and head.expect.lower() == "100-continue" and version == "1.1":
            self._connection.send_continue()
        if not self._connection.stopped:
            server.cache_head(self.new_head, head)
        self.new_head = b""

    def on_body(self, chunk: bytes) -> None:
        if self.request is None:
            return
        self._content = append_chunk(self._content, chunk)
        self._length += len(chunk)
        self._server.buffered_bytes += len(chunk)
        self._connection.deadline += len(chunk) / BODY_BYTES_PER_S
        self._check_body(self._length, self._server.buffered_bytes)

    def on_message_complete(self) -> None:
        request = self.request
        if request is None or (self._parser.should_upgrade() and has_body(request.head)):
            return  # in the latter case the body is still to come: see _ignore_upgrade
        self.request = None
        request.body = self._content if isinstance(self._content, bytes) else self._content.getvalue()
        self._content, self._length = b"", 0
        request.received = time.perf_counter()
        if not request.keep_alive:
            self._connection.stopped = True
        self._connection.receive(request)

    def _ignore_upgrade(self) -> None:
        """Continue after a head that asks for another protocol.

        httptools assumes that everything after such a head is in the other protocol. It is the request's body, if there
        is one, and then the next request: continue with a new parser.
        """
        self._parser = httptools.HttpRequestParser(self)
        request = self.request
        if request is not None:
            head = request.head
            lines = ["POST / HTTP/1.1"]
            if head.transfer_encoding:
                lines.append(f"Transfer-Encoding: {head.transfer_encoding}")
            if head.content_length:
                lines.append(f"Content-Length: {head.content_length}")
            # Give the new parser only the headers that frame the body.
            self.request, self._reparsing = None, True
            self._parser.feed_data("\r\n".join([*lines, "", ""]).encode("latin-1"))
            self.request, self._reparsing = request, False

    def _refuse_head(self) -> None:
        limit = self._server.settings.max_header_bytes
        self._connection.refuse(HeadTooLarge(f"the headers exceed {limit:,} bytes: send fewer or shorter ones"))

    def _check_body(self, length: int, waiting: int) -> None:
        server = self._server
        if length > server.limits.max_body_bytes:
            try:
                server.limits.check_body(length)
            except BodyTooLarge as error:
                self._connection.refuse(error)
        elif waiting > server.settings.max_buffered_bytes and length:
            self._connection.refuse(Overloaded(BUFFERS_FULL))


def append_chunk(body: bytes | io.BytesIO, chunk: bytes) -> bytes | io.BytesIO:
    """A body and its next chunk. Chunks may have a few bytes each: a list of them would take many times their memory.

    BytesIO keeps its content in a bytes object, which it extends in place and returns without a copy.
    """
    if not body:
        return chunk
    if isinstance(body, bytes):
        first, body = body, io.BytesIO()
        body.write(first)
    body.write(chunk)
    return body
