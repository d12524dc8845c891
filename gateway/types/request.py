"""One HTTP request, from its head to its answer."""

import itertools
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.predictions import Answer
from gateway.types.errors import answer_error

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_NEVER: Final = float("inf")

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")
_NAME: Final = f"{os.urandom(4).hex()}-%x".encode()
_NUMBERS: Final = itertools.count()


class Head:
    """A request's first line and headers.

    Clients send the same head over and over. Such requests share one object, so that what depends only on the head is
    computed once.
    """

    __slots__ = (
        "accept",
        "accept_encoding",
        "authorization",
        "content_encoding",
        "content_length",
        "content_type",
        "expect",
        "host",
        "if_none_match",
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
        self.accept_encoding = self.content_encoding = self.if_none_match = self.inference_length = ""
        self.transfer_encoding = ""
        self.authorization = self.origin = self.traceparent = self.tracestate = ""
        self.host: str | None = None
        self.repeated = ""
        """The name of a header that is repeated and must not be; "" if there is none."""
        self.keep_alive = True
        self.plan: Any = None
        """What its protocol has parsed from it; None before."""
        self.route: Callable[[Request], None] | None = None
        """The function that answers such requests; None before it is looked up."""


class Sender(Protocol):
    """A request's connection."""

    def answer(self, request: "Request", answer: Answer, headers: bytes) -> None:
        """Send a request's answer once those of earlier requests are sent."""


class Request:
    """One request and its answer."""

    __slots__ = (
        "_request_id",
        "body",
        "cancelled",
        "connection",
        "head",
        "keep_alive",
        "on_cancel",
        "origin",
        "received",
        "response",
        "span",
        "started",
    )

    def __init__(self, connection: Sender, head: Head, body: bytes = b"") -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.started = self.received = time.perf_counter()
        self.keep_alive = head.keep_alive
        self._request_id = b""
        self.span: Span | None = None
        """None unless it is traced."""
        self.cancelled = False
        """Whether the client has disconnected."""
        self.response: bytes | None = None
        self.on_cancel: Callable[[], None] | None = None
        """Called when the client disconnects."""

    expires: Final = _NEVER
    """HTTP clients send no deadline."""

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
        """The caller's span, by https://www.w3.org/TR/trace-context/."""
        return self.head.traceparent

    @property
    def tracestate(self) -> str:
        """The header of that name, by the same specification."""
        return self.head.tracestate

    @property
    def request_id(self) -> bytes:
        """The id in answers and logs."""
        if not self._request_id:
            self._request_id = request_id(self.head.request_id)
        return self._request_id

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send the answer once those of earlier requests are sent; `headers` are complete lines.

        Call it once, on the event loop. After the client has disconnected it does nothing.
        """
        self.connection.answer(self, answer, headers)

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send an error in the format of the request's protocol."""
        self.answer(answer_error(self.url, error), headers)


def request_id(given: str) -> bytes:
    """The client's id for a request if it is valid, or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given.encode()
    return _NAME % next(_NUMBERS)
