"""The standard services that gRPC's tools expect: health and reflection.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md, and server-reflection.md beside it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from fashion_mnist.errors import BadTensor, FashionMNISTError
from gateway.grpc.calls import refuse
from gateway.grpc.receiving import Receiver
from gateway.http.server import Server
from gateway.protocols import oip_grpc
from gateway.protocols.wire import BESIDE_TENSORS

HEALTH: Final = f"/{health_pb2.DESCRIPTOR.services_by_name['Health'].full_name}/"
SERVICES: Final = (oip_grpc.SERVICE, HEALTH.strip("/"), reflection.SERVICE_NAME)

POLL_S: Final = 0.1
"""How often the status is checked for `Watch`."""

MAX_WATCHES: Final = 1024
"""`Watch` calls of one process at a time: they need no key, and do not end by themselves."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """`grpc.health.v1.Health`, for the whole server, "", and for each service.

    The package's own servicer writes to clients while it holds the lock that every change of the status needs, so one
    client that does not read would block the status for all.
    """

    def __init__(self, server: Server, is_ready: Callable[[], bool]) -> None:
        self._server = server
        self._is_ready = is_ready
        self._watches = 0

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802
        """The status now. An unknown service is NOT_FOUND."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"unknown service: use one of {', '.join(SERVICES)}, or an empty name"
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """The status now and after each change, until the server drains."""
        if self._watches >= MAX_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many Watch calls are open: call Check")
        self._watches += 1
        last = None
        try:
            while True:
                draining, status = self._server.draining, self._status(request.service)
                if status != last:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    last = status
                if draining:
                    return
                await asyncio.sleep(POLL_S)
        finally:
            self._watches -= 1

    def _status(self, service: str) -> int:
        statuses = health_pb2.HealthCheckResponse
        if service and service not in SERVICES:
            return int(statuses.SERVICE_UNKNOWN)
        return int(statuses.SERVING if self._is_ready() else statuses.NOT_SERVING)


class StandardServices:
    """Creates handlers for the calls of both services, with the same limits and deadlines as all calls."""

    def __init__(self, server: Server, receiver: Receiver, is_ready: Callable[[], bool]) -> None:
        """`is_ready` returns whether the server should get requests."""
        self._server = server
        self._receiver = receiver
        self._handlers: list[grpc.GenericRpcHandler] = []
        health_pb2_grpc.add_HealthServicer_to_server(Health(server, is_ready), self)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(SERVICES), self)

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Collect what the packages would add to a server."""
        self._handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Ignore grpcio's fast path, which would make every call of every service slower."""

    def handler(self, details: Any) -> grpc.RpcMethodHandler | None:
        """The handler of one call; None for an unknown call."""
        found = next(filter(None, (handler.service(details) for handler in self._handlers)), None)
        if found is None:
            return None

        async def run(_: Any, context: Any) -> None:
            try:
                await self._answer(found, context)
            except FashionMNISTError as error:
                await refuse(self._server, error, context)

        return grpc.stream_stream_rpc_method_handler(run, response_serializer=found.response_serializer)

    async def _answer(self, handler: Any, context: Any) -> None:
        requests = self._requests(handler, context)
        if handler.request_streaming:  # reflection
            async for response in handler.stream_stream(requests, context):
                await context.write(response)
        else:
            request = await anext(requests, None)
            if request is None:
                raise BadTensor("the call has no message: send one")
            if handler.response_streaming:
                await handler.unary_stream(request, context)
            else:
                await context.write(await handler.unary_unary(request, context))

    async def _requests(self, handler: Any, context: Any) -> AsyncIterator[Any]:
        while (message := await self._receiver.receive(context)) is not None:
            self._server.buffered_bytes -= len(message)
            if len(message) > BESIDE_TENSORS:
                raise BadTensor(f"the message has {len(message):,} bytes: send one shorter than {BESIDE_TENSORS:,}")
            try:
                request = handler.request_deserializer(message)
            except DecodeError:
                raise BadTensor("the message is not of this call's type: use the service's own .proto") from None
            yield request
