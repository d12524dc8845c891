"""From the bytes of a connection to its requests.

llhttp, which Node.js uses, parses them (RFC 9112); this module keeps the limits of what is being received.
"""

import io
import time
from typing import Final, Protocol

import httptools

from fashion_mnist.errors import BodyTooLarge, FashionMNISTError, HeadTooLarge, Overloaded
from gateway.http.rules import HEADERS, LISTS, ONCE, has_body, malformed, normalised
from gateway.http.server import NO_ROOM, Server
from gateway.types.request import Head, Request

BODY_BYTES_PER_S: Final = 64 * 1024
"""A client that sends its body more slowly than this is refused once `receive_timeout_s` is over; the same rate holds
for a client that reads its last answer."""

SLICE_BYTES: Final = 1024
"""Parsed between two looks at the clock: 56 requests at most, or 170 chunks of a body, each of some microseconds."""


class Receiver(Protocol):
    """The connection whose bytes are read."""

    deadline: float
    stopped: bool

    def receive(self, request: Request) -> None:
        """Take a request that is complete."""

    def refuse(self, error: FashionMNISTError) -> None:
        """Answer the request that is being received with an error, and read no further."""

    def refuse_malformed(self) -> None:
        """Answer bytes that are no HTTP/1.1, and read no further."""

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body."""


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
        "_passing",
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
        """The head of the request that begins in the bytes that are being read, where they hold all of it."""
        self._content: bytes | io.BytesIO = b""  # of its body
        self._length = 0  # of its body, as far as it has arrived
        self._head_bytes = 0
        self._bytes = 0  # of the request altogether, without those that were parsed with its first
        self._began = False  # whether it began in the bytes that are being parsed
        self._in_head = False
        self._passing = False  # over a head that is parsed a second time

    # What the connection calls

    def slice_bytes(self, head_bytes: int) -> int:
        """How much is parsed at once: a whole head, or a whole body, is cheap where it comes in one piece."""
        request = self.request
        if request is not None and not self._in_head and request.head.content_length:
            return max(int(request.head.content_length) - self._length, SLICE_BYTES)
        return head_bytes if 0 < head_bytes < SLICE_BYTES else SLICE_BYTES

    def parse(self, data: memoryview) -> int:
        """Parse some bytes; how many of them were parsed."""
        self._began = False
        parsed = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # To another protocol, which we may ignore (RFC 9110, 7.8): what follows is HTTP/1.1 as before.
            parsed = upgrade.args[0]
            try:
                self._pass_over_upgrade()
            except httptools.HttpParserError:
                self._connection.refuse_malformed()
        except httptools.HttpParserError:
            # Nothing that follows can be understood.
            self._connection.refuse_malformed()
        if self.request is not None and not self._began:
            # A header or a chunk's length without an end: the parser keeps them to itself until they are complete.
            self._bytes += parsed
            if self._bytes - 8 * self._length > self._server.settings.max_header_bytes:
                self._refuse_head()
        return parsed

    def receive_known(self, head: Head, body: bytes) -> None:
        """Take a request that arrived complete. Its head was parsed and checked when it first came."""
        server = self._server
        request = Request(self._connection, head, body)  # type: ignore[arg-type]
        # Its key may have been revoked since.
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
        """Drop what was received of a request."""
        self._server.buffered_bytes -= self._length
        self._content, self._length = b"", 0
        self.request = None

    # What the parser calls

    def on_message_begin(self) -> None:
        connection = self._connection
        if connection.stopped or self._passing:
            # What comes behind the last request in the same bytes is not read (RFC 9112, 9.6).
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
            return  # behind a body in chunks: what stands there means nothing to us (RFC 9110, 6.5.1)
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
            # Before its body is received: who may not ask must not take room from those who may.
            self._connection.refuse(refusal)
        elif head.content_length:
            # The parser has seen to it that it is a number, the only one, and not beside chunks.
            length = int(head.content_length)
            if (full := server.check_room(length)) is not None:
                self._connection.refuse(full)
            else:
                self._check_body(length, server.buffered_bytes + length)
        if head.expect and head.expect.lower() == "100-continue" and version == "1.1":
            self._connection.send_continue()
        if not self._connection.stopped:
            server.know(self.new_head, head)
        self.new_head = b""

    def on_body(self, chunk: bytes) -> None:
        if self.request is None:
            return
        self._content = grown(self._content, chunk)
        self._length += len(chunk)
        self._server.buffered_bytes += len(chunk)
        self._connection.deadline += len(chunk) / BODY_BYTES_PER_S
        self._check_body(self._length, self._server.buffered_bytes)

    def on_message_complete(self) -> None:
        request = self.request
        if request is None or (self._parser.should_upgrade() and has_body(request.head)):
            return  # in the latter case its body is still to come: see _pass_over_upgrade
        self.request = None
        request.body = self._content if isinstance(self._content, bytes) else self._content.getvalue()
        self._content, self._length = b"", 0
        request.received = time.perf_counter()
        if not request.keep_alive:
            self._connection.stopped = True
        self._connection.receive(request)

    def _pass_over_upgrade(self) -> None:
        """Read on behind a head that asks for another protocol.

        httptools takes all that follows such a head for the other protocol. It is the request's body, if it has one,
        and then the next request: a new parser reads on from there.
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
            # A head that was read already, of which only what frames the body is parsed again.
            self.request, self._passing = None, True
            self._parser.feed_data("\r\n".join([*lines, "", ""]).encode("latin-1"))
            self.request, self._passing = request, False

    def _refuse_head(self) -> None:
        limit = self._server.settings.max_header_bytes
        self._connection.refuse(HeadTooLarge(f"the head is longer than {limit:,} bytes: send fewer or shorter headers"))

    def _check_body(self, length: int, waiting: int) -> None:
        server = self._server
        if length > server.limits.max_body_bytes:
            try:
                server.limits.check_body(length)
            except BodyTooLarge as error:
                self._connection.refuse(error)
        elif waiting > server.settings.max_buffered_bytes and length:
            self._connection.refuse(Overloaded(NO_ROOM))


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
