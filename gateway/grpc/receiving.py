"""Receives messages within the deadline and the budget for bodies, which all protocols share.

grpcio delivers a message once it is complete, and does not report how much of it has arrived. So a message that takes
longer than most is counted with the maximum length.
"""

import asyncio
from typing import Any, Final

import grpc

from fashion_mnist.errors import FashionMNISTError, Overloaded, RequestTimeout
from gateway.http.server import BUFFERS_FULL, Server

TICK_S: Final = 0.1
"""How often messages that are still being received are checked; faster ones count with their length alone."""

SLOW_SHARE: Final = 2
"""Messages that take longer may use the budget divided by this, so that stalling clients leave memory for others."""


class Receiver:
    """The messages that one process is receiving by gRPC."""

    def __init__(self, server: Server) -> None:
        """`server` has the budget and the limits."""
        self._server = server
        self._incoming: dict[_Incoming, None] = {}  # in the order in which they began
        self._slow = 0
        settings = server.settings
        self._max_slow = max(1, settings.max_buffered_bytes // SLOW_SHARE // settings.max_body_bytes)
        self._loop = asyncio.get_running_loop()
        self._checks = self._loop.create_task(self._check_messages())

    def close(self) -> None:
        """Stop checking messages."""
        self._checks.cancel()

    async def receive(self, context: Any) -> bytes | None:
        """The next message of a call; None after the last, and after one that grpcio refused.

        Its length is added to `buffered_bytes`; the caller subtracts it. Raises RequestTimeout and Overloaded.
        """
        task = asyncio.current_task()
        assert task is not None
        incoming = _Incoming(task, self._loop.time())
        self._incoming[incoming] = None
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if incoming.error is None:
                raise
            message = None
        finally:
            del self._incoming[incoming]
            if incoming.slow:
                self._slow -= 1
                self._server.buffered_bytes -= self._server.settings.max_body_bytes
        if incoming.error is not None:
            task.uncancel()
            raise incoming.error
        if message is grpc.aio.EOF:
            return None
        found: bytes = message
        self._server.buffered_bytes += len(found)
        if self._server.buffered_bytes > self._server.settings.max_buffered_bytes:
            self._server.buffered_bytes -= len(found)
            raise _overloaded()
        return found

    async def _check_messages(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self._loop.time()
            for incoming in list(self._incoming):
                if now - incoming.began < TICK_S:
                    break
                self._check(incoming, now)

    def _check(self, incoming: "_Incoming", now: float) -> None:
        settings = self._server.settings
        if now - incoming.began >= settings.receive_timeout_s:
            incoming.refuse(RequestTimeout("the message did not arrive in time: send it faster, or split it"))
        elif not incoming.slow:
            full = self._server.buffered_bytes + settings.max_body_bytes > settings.max_buffered_bytes
            if full or self._slow >= self._max_slow:
                incoming.refuse(_overloaded())
            else:
                incoming.slow = True
                self._slow += 1
                self._server.buffered_bytes += settings.max_body_bytes


class _Incoming:
    """A message that is being received."""

    __slots__ = ("_task", "began", "error", "slow")

    def __init__(self, task: "asyncio.Task[Any]", began: float) -> None:
        self._task = task
        self.began = began
        self.slow = False
        """Whether it is counted with the maximum length."""
        self.error: FashionMNISTError | None = None
        """Why it is refused."""

    def refuse(self, error: FashionMNISTError) -> None:
        if self.error is None:
            self.error = error
            self._task.cancel()


def _overloaded() -> Overloaded:
    return Overloaded(BUFFERS_FULL)
