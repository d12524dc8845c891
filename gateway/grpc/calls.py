"""One call of the Open Inference Protocol: from its metadata to a request that the service answers, and back.

Its handler is declared with streamed requests although one message comes. On the wire that is the same, and it lets us
check the key before the message is received.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from fashion_mnist.errors import BadTensor, FashionMNISTError
from fashion_mnist.predictions import Answer
from gateway.grpc.receiving import Receiver
from gateway.http.server import Server
from gateway.types.errors import headers_of
from gateway.types.request import request_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

STATUSES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""The status of an error, by the one that it has in HTTP; INTERNAL where there is none."""

_NEVER: Final = float("inf")
_METADATA: Final = {
    "authorization": "authorization",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "x-request-id": "_given_id",
}
"""The metadata that are read, and the attributes of a call that they become."""


class Call:
    """One call. See `gateway.protocols.Exchange`."""

    __slots__ = (
        "_given_id",
        "_reply",
        "_request_id",
        "authorization",
        "body",
        "buffered_bytes",
        "expires",
        "gone",
        "method",
        "on_gone",
        "received",
        "span",
        "started",
        "traceparent",
        "tracestate",
        "url",
    )

    def __init__(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """`method` is the call's full name, as `/package.Service/Method`."""
        self.started = self.received = time.perf_counter()
        self.method, self.url = b"POST", method.encode()
        self.body = b""
        self.expires = _NEVER
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.span: Span | None = None
        self.buffered_bytes = 0
        """What it takes of the budget for bodies: its message, then its answer until that is sent."""
        self.authorization = self.traceparent = self.tracestate = self._given_id = ""
        self._request_id = b""
        self._reply: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()
        for name, value in metadata:
            if name in _METADATA and isinstance(value, str):
                setattr(self, _METADATA[name], value)

    @property
    def request_id(self) -> bytes:
        """Its name in answers and logs."""
        if not self._request_id:
            self._request_id = request_id(self._given_id)
        return self._request_id

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send a message. To be called once, on the event loop; after the client has cancelled it does nothing."""
        if not self._reply.done():
            self._reply.set_result((answer.body, headers))

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send a status other than OK."""
        if not self._reply.done():
            self._reply.set_exception(Refused(error, headers))

    async def reply(self) -> tuple[bytes, bytes]:
        """The message to send, and its metadata as header lines. Raises Refused.

        Cancelled, it tells whoever works on the answer that nobody waits for it.
        """
        try:
            return await self._reply
        except asyncio.CancelledError:
            self.gone = True
            if self.on_gone is not None:
                self.on_gone()
            raise


class Refused(Exception):
    """A call ends with this error; `headers` are whole lines."""

    def __init__(self, error: FashionMNISTError, headers: bytes) -> None:
        super().__init__(error.message)
        self.error = error
        self.headers = headers


class InferenceService:
    """Makes handlers for calls of `inference.GRPCInferenceService`."""

    def __init__(self, server: Server, receiver: Receiver, handle: Callable[[Call], None]) -> None:
        """`handle` answers each call, at once or later, on the event loop."""
        self._server = server
        self._receiver = receiver
        self._handle = handle
        self._released = asyncio.Event()
        self._released.set()

    def hold_answers(self) -> None:
        """Keep answers back until `release_answers`."""
        self._released.clear()

    def release_answers(self) -> None:
        """Send what was kept back."""
        self._released.set()

    def handler(self, call: Call) -> grpc.RpcMethodHandler:
        """The handler of one call."""
        return grpc.stream_unary_rpc_method_handler(functools.partial(self._run, call))

    async def _run(self, call: Call, requests: Any, context: Any) -> bytes:
        server = self._server
        try:
            message = await self._receiver.receive(context)
            if message is None:
                raise BadTensor("there is no message in the call: send one")
        except FashionMNISTError as error:
            await refuse(server, error, context)
        call.body = message
        call.received = time.perf_counter()
        call.buffered_bytes = len(message)
        context.add_done_callback(lambda _: self._release(call))
        if (remaining := context.time_remaining()) is not None:
            call.expires = call.received + remaining
        try:
            self._handle(call)
        except Exception:
            log.exception("a call could not be handled")
            call.answer_error(FashionMNISTError("the call failed, which is not your fault: report it"))
        try:
            message, headers = await call.reply()
            if not self._released.is_set():
                await self._released.wait()
        except Refused as refused:
            await abort(context, refused.error, refused.headers)
        # A client may take its time to read the answer.
        server.buffered_bytes += len(message) - call.buffered_bytes
        call.buffered_bytes = len(message)
        context.set_trailing_metadata(metadata(headers))
        return message

    def _release(self, call: Call) -> None:
        self._server.buffered_bytes -= call.buffered_bytes


async def refuse(server: Server, error: FashionMNISTError, context: Any) -> NoReturn:
    """End a call that the service has not seen, and count that."""
    server.on_refusal(error)
    await abort(context, error, headers_of(error))


async def abort(context: Any, error: FashionMNISTError, headers: bytes) -> NoReturn:
    """End a call with the status of an error; `headers` are whole lines. It raises what grpcio wants to be raised."""
    status = STATUSES.get(error.status, grpc.StatusCode.INTERNAL)
    await context.abort(status, error.message, metadata(headers))
    raise AssertionError("abort has returned")


def metadata(headers: bytes) -> tuple[tuple[str, str], ...]:
    """Header lines of HTTP/1.1 as metadata."""
    lines = headers.decode("latin-1").split("\r\n")[:-1]
    return tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines))
