"""One call of the Open Inference Protocol, as a request that the service answers.

Its handler is declared with streamed requests although the client sends one message. The bytes sent are the same, and
the key can be checked before the message is received.
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
"""gRPC's status by HTTP's; INTERNAL for all others."""

_NEVER: Final = float("inf")
_METADATA: Final = {
    "authorization": "authorization",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "x-request-id": "_given_id",
}
"""The metadata that are read, and the attributes of `Call` that hold them."""


class Call:
    """One call. See `gateway.types.exchange.Exchange`."""

    __slots__ = (
        "_given_id",
        "_reply",
        "_request_id",
        "authorization",
        "body",
        "buffered_bytes",
        "cancelled",
        "expires",
        "method",
        "on_cancel",
        "received",
        "span",
        "started",
        "traceparent",
        "tracestate",
        "url",
    )

    def __init__(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """`method` is the call's full name, `/package.Service/Method`."""
        self.started = self.received = time.perf_counter()
        self.method, self.url = b"POST", method.encode()
        self.body = b""
        self.expires = _NEVER
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self.span: Span | None = None
        self.buffered_bytes = 0
        """Bytes counted towards the budget for bodies: the message, then the answer until it is sent."""
        self.authorization = self.traceparent = self.tracestate = self._given_id = ""
        self._request_id = b""
        self._reply: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()
        for name, value in metadata:
            if name in _METADATA and isinstance(value, str):
                setattr(self, _METADATA[name], value)

    @property
    def request_id(self) -> bytes:
        """The id in answers and logs."""
        if not self._request_id:
            self._request_id = request_id(self._given_id)
        return self._request_id

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send a message. Call it once, on the event loop; after the client has cancelled it does nothing."""
        if not self._reply.done():
            self._reply.set_result((answer.body, headers))

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send a status other than OK."""
        if not self._reply.done():
            self._reply.set_exception(Refused(error, headers))

    async def reply(self) -> tuple[bytes, bytes]:
        """The message to send, and its metadata as header lines. Raises Refused.

        When it is cancelled, it calls `on_cancel`.
        """
        try:
            return await self._reply
        except asyncio.CancelledError:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()
            raise


class Refused(Exception):
    """Ends a call with this error; `headers` are complete lines."""

    def __init__(self, error: FashionMNISTError, headers: bytes) -> None:
        super().__init__(error.message)
        self.error = error
        self.headers = headers


class InferenceService:
    """Creates handlers for calls of `inference.GRPCInferenceService`."""

    def __init__(self, server: Server, receiver: Receiver, handle: Callable[[Call], None]) -> None:
        """`handle` answers each call, at once or later, on the event loop."""
        self._server = server
        self._receiver = receiver
        self._handle = handle
        self._released = asyncio.Event()
        self._released.set()

    def hold_answers(self) -> None:
        """Hold answers until `release_answers`."""
        self._released.clear()

    def release_answers(self) -> None:
        """Send the held answers."""
        self._released.set()

    def handler(self, call: Call) -> grpc.RpcMethodHandler:
        """The handler of one call."""
        return grpc.stream_unary_rpc_method_handler(functools.partial(self._run, call))

    async def _run(self, call: Call, requests: Any, context: Any) -> bytes:
        server = self._server
        try:
            message = await self._receiver.receive(context)
            if message is None:
                raise BadTensor("the call has no message: send one")
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
            call.answer_error(FashionMNISTError("the call failed because of a defect in the service: report it"))
        try:
            message, headers = await call.reply()
            if not self._released.is_set():
                await self._released.wait()
        except Refused as refused:
            await abort(context, refused.error, refused.headers)
        # The answer counts until the client has read it.
        server.buffered_bytes += len(message) - call.buffered_bytes
        call.buffered_bytes = len(message)
        context.set_trailing_metadata(metadata(headers))
        return message

    def _release(self, call: Call) -> None:
        self._server.buffered_bytes -= call.buffered_bytes


async def refuse(server: Server, error: FashionMNISTError, context: Any) -> NoReturn:
    """End a call that does not reach the service, and count it as refused."""
    server.on_refusal(error)
    await abort(context, error, headers_of(error))


async def abort(context: Any, error: FashionMNISTError, headers: bytes) -> NoReturn:
    """End a call with the status of an error; `headers` are complete lines. Raises grpcio's own exception."""
    status = STATUSES.get(error.status, grpc.StatusCode.INTERNAL)
    await context.abort(status, error.message, metadata(headers))
    raise AssertionError("abort has returned")


def metadata(headers: bytes) -> tuple[tuple[str, str], ...]:
    """HTTP/1.1 header lines as metadata."""
    lines = headers.decode("latin-1").split("\r\n")[:-1]
    return tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines))
