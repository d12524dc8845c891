"""One request by HTTP, from its head to its answer."""

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
    """What a request's first line and its headers say.

    Clients send the same head over and over, and requests with the same share one object: whatever follows from a head
    alone is found out once.
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
        """A header that has two lines and may have one."""
        self.keep_alive = True
        self.plan: Any = None
        """What its protocol makes of it, once that is known."""
        self.route: Callable[[Request], None] | None = None
        """What answers such requests, once that is known."""


class Sender(Protocol):
    """The connection that a request came by."""

    def answer(self, request: "Request", answer: Answer, headers: bytes) -> None:
        """Send a request's answer as soon as those of earlier requests are sent."""


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

    def __init__(self, connection: Sender, head: Head, body: bytes = b"") -> None:
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
        self.connection.answer(self, answer, headers)

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send an error, in the words of the protocol that was asked."""
        self.answer(answer_error(self.url, error), headers)


def request_id(given: str) -> bytes:
    """The name of a request: what the client calls it, where that can be one, or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given.encode()
    return _NAME % next(_NUMBERS)
