"""What the connections of one process share: limits, deadlines, the budget for bodies, and access control."""

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol

from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.predictions import Answer
from fashion_mnist.settings import Settings
from gateway.http.cors import Cors
from gateway.types.request import Head, Request

log = logging.getLogger(__name__)

BUFFERS_FULL: Final = "too many bytes of other requests are buffered: retry in a moment"

LINGER_S: Final = 2.0
"""How long a connection stays half open after its last answer, so that a client that is still sending can read it."""

TICK_S: Final = 0.25
"""How often deadlines are checked."""

MAX_CACHED_HEADS: Final = 512
MAX_CACHED_HEAD_BYTES: Final = 1024
"""How many request heads are cached, and how long one may be."""

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_ANSWER: Final = b"%bDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n%b"


class RequestInfo(Protocol):
    """An HTTP request whose head has arrived, or a gRPC call whose metadata have."""

    authorization: str
    method: bytes
    url: bytes


class Connection(Protocol):
    """One client's HTTP connection."""

    def check_timeouts(self) -> None:
        """Close the connection if its deadline has passed."""

    def close_if_idle(self) -> None:
        """Close the connection if no request is being received or answered, and none has been for a while."""

    def abort(self) -> None:
        """Close the connection at once."""


class Server:
    """The connections of one process, and what they share."""

    def __init__(self, settings: Settings, handle: Callable[[Request], None]) -> None:
        self.settings = settings
        self.limits = Limits.from_settings(settings)
        self.connections: set[Connection] = set()
        self.handshakes = 0
        """Clients that are in their TLS handshake."""
        self.head_cache: dict[bytes, Head] = {}
        """Parsed heads by their bytes, of requests whose body is framed by its content length."""
        self.buffered_bytes = 0
        """Bytes of bodies that are being received or await their answers."""
        self.draining = False
        """Whether each answer closes its connection."""
        self.on_refusal: Callable[[FashionMNISTError], None] = lambda error: None
        self.admit: Callable[[RequestInfo], FashionMNISTError | None] | None = None
        """Returns why a request must not be received any further, or None; if unset, every request is admitted."""
        self.cors = Cors(settings.cors_origins).headers
        self._handle = handle
        self._timeouts: asyncio.Task[None] | None = None
        self._read_clock()

    def response(self, answer: Answer, headers: bytes, *, with_body: bool = True) -> bytes:
        """An answer as bytes to send; `headers` are complete lines."""
        return _ANSWER % (
            _STATUS_LINES[answer.status],
            self.date,
            answer.content_type.encode(),
            len(answer.body),
            answer.headers,
            headers,
            # A 304 has the length of what it does not send (RFC 9110, 15.4.5).
            answer.body if with_body and answer.status != HTTPStatus.NOT_MODIFIED else b"",
        )

    def cache_head(self, data: bytes, head: Head) -> None:
        """Cache a head that was parsed from these bytes, if its body is framed by its content length."""
        # Not if empty lines precede the request.
        plain = data.startswith(head.method) and head.method in (b"POST", b"PUT") and head.content_length.isdigit()
        # One with a request id or a caller's span never recurs.
        odd = head.transfer_encoding or head.expect or head.request_id or head.traceparent or not head.keep_alive
        if plain and not odd and len(data) <= MAX_CACHED_HEAD_BYTES:
            if len(self.head_cache) >= MAX_CACHED_HEADS:
                self.head_cache.clear()
            self.head_cache[data] = head

    def handle(self, request: Request) -> None:
        """Handle a complete request, which is answered at once or later."""
        try:
            self._handle(request)
        except Exception:
            log.exception("a request could not be handled")
            if request.response is None:
                error = FashionMNISTError("the request failed because of a defect in the service: report it")
                request.answer_error(error)

    def start(self) -> None:
        """Start to check deadlines."""
        self._timeouts = asyncio.get_running_loop().create_task(self._check_timeouts())

    def stop(self) -> None:
        """Close every connection at once."""
        if self._timeouts:
            self._timeouts.cancel()
        for connection in list(self.connections):
            connection.abort()

    def for_each_connection(self, action: Callable[[Connection], None]) -> None:
        """Call `action` for each connection. If it raises, log that and abort the connection; the others go on."""
        for connection in list(self.connections):
            try:
                action(connection)
            except Exception:
                log.exception("a connection failed and was closed")
                self.connections.discard(connection)
                connection.abort()

    async def _check_timeouts(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._read_clock()
            self.for_each_connection(lambda connection: connection.check_timeouts())

    def _read_clock(self) -> None:
        # Shared, because reading the clock for each request is too expensive.
        self.now = time.monotonic()
        self.date = formatdate(usegmt=True).encode()
