"""A sender's connections of gRPC: grpcio's own client, with many calls at a time on each."""

import asyncio
from typing import ClassVar, Final

import grpc

from benchmarks.open_loop import sender
from benchmarks.open_loop.sender import Connection, Query, Sender
from loadtest.kinds import Sent

MAX_CALLS: Final = 64
"""At a time on one connection."""

STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 0,
}
"""What HTTP calls the statuses that our service has, and 0 where there was no answer in time; others count as 500."""

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
)


class GRPCConnection(Connection):
    """One of them."""

    max_slots: ClassVar[int] = MAX_CALLS

    def __init__(self, sender: Sender, slots: int) -> None:
        super().__init__(sender, slots)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def written(netloc: str, request: Sent) -> Sent:
        return request

    async def connect(self, host: str, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"{host}:{port}", options=_OPTIONS)
        await self._channel.channel_ready()

    def send(self, query: Query, content: Sent) -> None:
        task = asyncio.get_running_loop().create_task(self._call(query, content))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._channel is not None:
            closing = asyncio.get_running_loop().create_task(self._channel.close())
            self._tasks.add(closing)

    async def _call(self, query: Query, request: Sent) -> None:
        assert self._channel is not None
        method = self._methods.get(request.path)
        if method is None:
            method = self._methods[request.path] = self._channel.unary_unary(request.path)
        metadata = [(name.lower(), value) for name, value in request.headers.items()]
        status, body = 200, b""
        try:
            body = await method(request.body, timeout=sender.ANSWER_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            status = STATUSES.get(error.code(), 500)
        self.sender.answered(query, status, body)
        self.sender.free(self)
