"""Many requests at once from one thread: kept connections on an event loop of its own.

It is as lean as Python allows, because what it takes itself the server cannot be seen to do. Its connections are those
of `benchmarks.open_loop.http_connection`, with one request at a time on each, or `grpc_connection`, with many.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import urlsplit

import uvloop

from loadtest.kinds import Sent

AT_ONCE: Final = 1024
"""The most requests at once, unless fewer are asked for; one that finds no room waits, and is late."""

LATE_S: Final = 0.002
"""A request that is sent so long after it was due is late."""

CONNECT_S: Final = 5.0
"""A connection that is not ready by then is given up."""

ANSWER_S: Final = 10.0
"""A request without an answer for so long is given up, as a lost connection: LoadGen would wait for ever."""


class Answer(NamedTuple):
    """What came of a query: its status, as HTTP has it, 0 where the connection was lost, and how long it took.

    That is since it was due, or, where all were due at once, since it was sent.
    """

    query: int
    request: int
    status: int
    body: bytes
    seconds: float


class Query(NamedTuple):
    """What is under way: its number, its request's place, and by `perf_counter` when it was due and was sent."""

    number: int
    request: int
    due: float
    sent: float


class Sender:
    """Sends any of some requests, whenever asked to, from a thread of its own."""

    def __init__(
        self,
        url: str,
        requests: Sequence[Sent],
        on_answers: Callable[[list[Answer]], None],
        connection_class: "type[Connection]",
        at_once: int = AT_ONCE,
        *,
        due_together: bool = False,
    ) -> None:
        """`on_answers` is called in the thread, with all answers that came in one turn of the loop.

        `due_together` says that all requests are, and none of them is late.
        """
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._connection_class = connection_class
        self._requests = [connection_class.written(address.netloc, request) for request in requests]
        self._on_answers = on_answers
        self._due: deque[tuple[int, int, float]] = deque()
        self._free: list[Connection] = []
        """A connection as often as it takes another request."""
        self._connections: set[Connection] = set()
        self._slots, self._most = 0, at_once
        """Of requests on all connections, and the most that there may be."""
        self._due_together = due_together
        self._answers: list[Answer] = []
        self._awake = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sender", daemon=True)
        self.sent = self.late = 0

    def __enter__(self) -> "Sender":
        self._thread.start()
        self._loop.call_soon_threadsafe(self._give_up)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()

    def send(self, queries: Sequence[tuple[int, int]]) -> None:
        """Send a request for each: its query's number, which its answer carries, and the request's place."""
        now = time.perf_counter()
        self._due.extend([(query, request, now) for query, request in queries])
        if not self._awake:
            self._awake = True
            self._loop.call_soon_threadsafe(self._send_due)

    def _send_due(self) -> None:
        self._awake = False
        due, free = self._due, self._free
        while due:
            if free:
                connection = free.pop()
            elif self._slots < self._most:
                slots = min(self._connection_class.max_slots, self._most - self._slots)
                self._slots += slots
                task = self._loop.create_task(self._connect(slots, *due.popleft()))
                task.add_done_callback(_look)
                continue
            else:
                return  # the next answer goes on
            self._write(connection, *due.popleft())

    def _write(self, connection: "Connection", number: int, request: int, due: float) -> None:
        now = time.perf_counter()
        if self._due_together:
            due = now
        self.sent += 1
        self.late += now - due > LATE_S
        connection.send(Query(number, request, due, now), self._requests[request])

    async def _connect(self, slots: int, number: int, request: int, due: float) -> None:
        connection = self._connection_class(self, slots)
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.connect(self._host, self._port)
        except OSError:  # TimeoutError is one
            connection.close()
            self._slots -= slots
            self.answered(Query(number, request, due, due), 0, b"")
            self._send_due()
            return
        self._connections.add(connection)
        self._free += [connection] * (slots - 1)
        self._write(connection, number, request, due)
        self._send_due()

    def _give_up(self) -> None:
        """Look, now and then, for requests that had time enough."""
        latest = time.perf_counter() - ANSWER_S
        for connection in self._connections:
            connection.give_up(latest)
        self._loop.call_later(ANSWER_S / 10, self._give_up)

    def answered(self, query: Query, status: int, body: bytes) -> None:
        """A query has its answer, or, with status 0, will have none."""
        if not self._answers:
            self._loop.call_soon(self._tell)
        took = time.perf_counter() - query.due
        self._answers.append(Answer(query.number, query.request, status, body, took))

    def free(self, connection: "Connection") -> None:
        """A connection takes another request."""
        self._free.append(connection)
        if self._due:
            self._send_due()

    def lost(self, connection: "Connection") -> None:
        """A connection is no more; of those that were never ready nothing was known."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._slots -= connection.slots
            self._free[:] = [other for other in self._free if other is not connection]
            if self._due:
                self._send_due()

    def _tell(self) -> None:
        answers, self._answers = self._answers, []
        self._on_answers(answers)

    def _stop(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self._loop.call_soon(self._loop.stop)


class Connection:
    """A connection of a sender, which takes `slots` requests at a time."""

    max_slots: ClassVar[int]

    def __init__(self, sender: Sender, slots: int) -> None:
        self.sender, self.slots = sender, slots

    @staticmethod
    def written(netloc: str, request: Sent) -> Any:
        """A request as `send` takes it."""
        raise NotImplementedError

    async def connect(self, host: str, port: int) -> None:
        """Be ready for requests. Raises OSError."""
        raise NotImplementedError

    def send(self, query: Query, content: Any) -> None:
        """Send what `written` gave; the sender is told of its answer, and when another request may be sent."""
        raise NotImplementedError

    def give_up(self, latest: float) -> None:
        """Wait no more for answers to what was sent before that moment."""

    def close(self) -> None:
        """Send no more."""
        raise NotImplementedError


def _look(task: "asyncio.Task[None]") -> None:
    task.result()
