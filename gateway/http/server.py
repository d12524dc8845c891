"""What the connections of one process share: limits, deadlines, the budget for bodies, and who is admitted."""

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

NO_ROOM: Final = "the bodies that wait take all the room that bodies have: send it again a moment later"

LINGER_S: Final = 2.0
"""How long a connection stays half open behind its last answer, for a client that may still be sending to read it."""

TICK_S: Final = 0.25
"""How often deadlines are looked at."""

KNOWN_HEADS: Final = 512
KNOWN_HEAD_BYTES: Final = 1024
"""How many heads are kept that came before, and how long one may be."""

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_ANSWER: Final = b"%bDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n%b"


class Asking(Protocol):
    """A request whose head is there, or a call whose metadata are."""

    authorization: str
    method: bytes
    url: bytes


class Connection(Protocol):
    """One client's, by HTTP."""

    def check_timeouts(self) -> None:
        """Close the connection where its deadline has passed."""

    def close_if_idle(self) -> None:
        """Close the connection where no request is being received or answered, and none came for a while."""

    def abort(self) -> None:
        """Close the connection at once."""


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
        self.buffered_bytes = 0
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
            # A 304 has the length of what it does not send (RFC 9110, 15.4.5).
            answer.body if with_body and answer.status != HTTPStatus.NOT_MODIFIED else b"",
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
            self.tend(lambda connection: connection.check_timeouts())

    def _tick(self) -> None:
        # Once for all: a call to the clock for each request would be a call too many.
        self.now = time.monotonic()
        self.date = formatdate(usegmt=True).encode()
