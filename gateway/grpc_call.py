"""gRPC over HTTP/2: a call is a request with one message in it, and its answer a message and a status.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import functools
import logging
import re
import string
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fashion_mnist.errors import (
    BadParameter,
    BadTensor,
    FashionMNISTError,
    MethodNotAllowed,
    RequestTimeout,
    UnsupportedMediaType,
)
from fashion_mnist.predictions import Answer
from gateway.batching import TOO_LATE
from gateway.connection import Server, headers_of, request_id
from gateway.http2 import Connection, Headers, Stream, literal, text

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

INTERNAL: Final = 13
STATUSES: Final = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    413: 3,
    415: 3,
    429: 8,  # RESOURCE_EXHAUSTED
    431: 3,
    503: 14,  # UNAVAILABLE
}
"""The status of an error, by the one that it has in HTTP; INTERNAL where there is none."""

_STATUS_200: Final = b"\x88"  # RFC 7541, appendix A
_HEAD: Final = _STATUS_200 + literal(b"content-type", b"application/grpc")
_OK: Final = literal(b"grpc-status", b"0")
_UNSUPPORTED: Final = literal(b":status", b"415")
_ENCODINGS: Final = b"grpc-accept-encoding: identity\r\n"
_KINDS: Final = ("application/grpc+", "application/grpc;")
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NEVER: Final = float("inf")
_TEXT: Final = string.ascii_letters + string.digits + string.punctuation.replace("%", "") + " "
"""What a status message may hold as it is."""


class Call(Stream):
    """One call. See `gateway.protocols.Exchange`."""

    __slots__ = ("_handle", "_request_id", "body", "expires", "gone", "on_gone", "received", "span")

    def __init__(
        self,
        handle: "Callable[[Call], None]",
        connection: Connection,
        stream_id: int,
        headers: Headers,
        window: int,
    ) -> None:
        super().__init__(connection, stream_id, headers, window)
        self._handle = handle
        self._request_id = b""
        self.body = b""
        self.received = self.started
        self.expires = _NEVER
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.span: Span | None = None

    @property
    def request_id(self) -> bytes:
        """Its name in answers and logs."""
        if not self._request_id:
            self._request_id = request_id(self.given_id)
        return self._request_id

    def begin(self) -> None:
        if self.method != b"POST":
            raise MethodNotAllowed("a call is a POST")
        if self.content_type != "application/grpc" and not self.content_type.startswith(_KINDS):
            raise UnsupportedMediaType("a call is of type application/grpc: speak gRPC here, and gRPC-Web to a proxy")
        if self.timeout:
            self.expires = self.started + _seconds(self.timeout)

    def arrive(self) -> None:
        self.received = time.perf_counter()
        content, self.content = bytes(self.content), b""
        try:
            if self.received >= self.expires:
                raise RequestTimeout(TOO_LATE)
            self.body = _message(self, content)
            self._handle(self)
        except FashionMNISTError as error:
            self.refuse(error)
        except Exception:
            log.exception("a call could not be handled")
            self.refuse(FashionMNISTError("the call failed, which is not your fault: report it"))

    def refuse(self, error: FashionMNISTError) -> None:
        self.connection.server.on_refusal(error)
        if isinstance(error, UnsupportedMediaType):
            # Whoever speaks something else would not find gRPC's own status.
            self.connection.send(self, _UNSUPPORTED)
        else:
            self.answer_error(error, headers_of(error) + (_ENCODINGS if isinstance(error, MethodNotAllowed) else b""))

    def lose(self) -> None:
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send a message. To be called once, on the event loop; where the client is gone it does nothing."""
        message = answer.body
        self.connection.send(self, _HEAD + _metadata(headers), b"\0" + len(message).to_bytes(4, "big") + message, _OK)

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send a status other than OK."""
        status = str(STATUSES.get(error.status, INTERNAL)).encode()
        message = quote(error.message, safe=_TEXT).encode()
        self.connection.send(
            self,
            _HEAD + _metadata(headers) + literal(b"grpc-status", status) + literal(b"grpc-message", message),
        )


def connection(server: Server, handle: Callable[[Call], None]) -> Connection:
    """A new client's connection, whose calls are handled by `handle`, at once or later."""

    def accept(connection: Connection, stream_id: int, headers: Headers, window: int) -> Call:
        return Call(handle, connection, stream_id, headers, window)

    return Connection(server, accept)


def _message(call: Call, content: bytes) -> bytes:
    """The one message of a call."""
    if len(content) < 5:
        raise BadTensor(f"the call's body is cut short, it has {len(content)} bytes: send one message")
    if content[0]:
        # UNIMPLEMENTED, as gRPC's own servers say.
        raise MethodNotAllowed(f"messages packed as {call.content_encoding[:20]!r} are not read: send them as they are")
    length = int.from_bytes(content[1:5], "big")
    if length != len(content) - 5:
        raise BadTensor(f"the message says {length:,} bytes, and {len(content) - 5:,} were sent: send one, and whole")
    return content[5:]


def _seconds(timeout: str) -> float:
    """How long a caller waits, by its own word."""
    found = _TIMEOUT.fullmatch(timeout)
    if found is None:
        raise BadParameter(f"grpc-timeout is {timeout[:20]!r}: send up to eight digits, and one of {''.join(_UNITS)}")
    return int(found[1]) * _UNITS[found[2]]


def _metadata(headers: bytes) -> bytes:
    """Header lines of HTTP/1.1 as metadata."""
    if not headers:
        return b""
    lines = [line.split(b": ", 1) for line in headers.split(b"\r\n")[:-1]]
    return b"".join([_begin(name) + text(value) for name, value in lines])


@functools.cache
def _begin(name: bytes) -> bytes:
    """A header up to its value. There are no more names than we have."""
    return literal(name.lower(), b"")[:-1]
