"""Many requests at once from one thread: kept connections on an event loop of its own, one request at a time on each.

It is as lean as Python allows, because what it takes itself the server cannot be seen to do.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from loadtest.kinds import Sent

CONNECTIONS: Final = 1024
"""The most at once, unless fewer are asked for; a request that finds all of them in use waits, and is late."""

LATE_S: Final = 0.002
"""A request that is sent so long after it was due is late."""

ANSWER_S: Final = 10.0
"""A request without an answer for so long is given up, as a lost connection: LoadGen would wait for ever."""


class Answer(NamedTuple):
    """What came of a query: its status, 0 where the connection was lost, and how long it took.

    That is since it was due, or, where all were due at once, since it was sent.
    """

    query: int
    request: int
    status: int
    body: bytes
    seconds: float


class Sender:
    """Sends any of some requests, whenever asked to, from a thread of its own."""

    def __init__(
        self,
        url: str,
        requests: Sequence[Sent],
        on_answers: Callable[[list[Answer]], None],
        connections: int = CONNECTIONS,
        *,
        at_once: bool = False,
    ) -> None:
        """`on_answers` is called in the thread, with all answers that came in one turn of the loop.

        `at_once` says that all requests are due together, and none of them is late.
        """
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._requests = [_written(address.netloc, request) for request in requests]
        self._on_answers = on_answers
        self._due: deque[tuple[int, int, float]] = deque()
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._open, self._most = 0, connections
        self._at_once = at_once
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
        due, idle = self._due, self._idle
        while due:
            if idle:
                connection = idle.pop()
            elif self._open < self._most:
                self._open += 1
                task = self._loop.create_task(self._connect(*due.popleft()))
                task.add_done_callback(_look)
                continue
            else:
                return  # the next answer goes on
            self._write(connection, *due.popleft())

    def _write(self, connection: "_Connection", query: int, request: int, due: float) -> None:
        now = time.perf_counter()
        if self._at_once:
            due = now
        self.sent += 1
        self.late += now - due > LATE_S
        connection.send(query, request, due, now, self._requests[request])

    async def _connect(self, query: int, request: int, due: float) -> None:
        try:
            async with asyncio.timeout(5):
                _, connection = await self._loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError:  # TimeoutError is one
            self._open -= 1
            self.answered(Answer(query, request, 0, b"", time.perf_counter() - due))
            self._send_due()
            return
        self._write(connection, query, request, due)

    def _give_up(self) -> None:
        """Look, now and then, for requests that had time enough."""
        latest = time.perf_counter() - ANSWER_S
        for connection in self._connections:
            connection.give_up(latest)
        self._loop.call_later(ANSWER_S / 10, self._give_up)

    def opened(self, connection: "_Connection") -> None:
        """A connection is there."""
        self._connections.add(connection)

    def answered(self, answer: Answer) -> None:
        """A connection has an answer, or has lost it."""
        if not self._answers:
            self._loop.call_soon(self._tell)
        self._answers.append(answer)

    def free(self, connection: "_Connection") -> None:
        """A connection can be used again."""
        self._idle.append(connection)
        if self._due:
            self._send_due()

    def lost(self, connection: "_Connection") -> None:
        """A connection is no more."""
        self._open -= 1
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._due:
            self._send_due()

    def _tell(self) -> None:
        answers, self._answers = self._answers, []
        self._on_answers(answers)

    def _stop(self) -> None:
        for connection in list(self._idle):
            connection.close()
        self._loop.call_soon(self._loop.stop)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    __slots__ = ("_body", "_due", "_parser", "_query", "_request", "_sender", "_sent", "_transport")

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._query = -1
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def send(self, query: int, request: int, due: float, sent: float, content: bytes) -> None:
        self._query, self._request, self._due, self._sent = query, request, due, sent
        self._transport.write(content)

    def close(self) -> None:
        self._transport.close()

    def give_up(self, latest: float) -> None:
        """Hang up where the answer to what was sent before that moment is still to come."""
        if self._query >= 0 and self._sent < latest:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sender.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._sender.lost(self)
        if self._query >= 0:
            self._answer(0, b"")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        keep = self._parser.should_keep_alive()
        self._answer(self._parser.get_status_code(), body)
        if keep:
            self._sender.free(self)
        else:
            self._transport.close()

    def _answer(self, status: int, body: bytes) -> None:
        query, self._query = self._query, -1
        self._sender.answered(Answer(query, self._request, status, body, time.perf_counter() - self._due))


def _written(netloc: str, request: Sent) -> bytes:
    headers = {"Host": netloc, "Content-Length": str(len(request.body)), **request.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {request.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body


def _look(task: "asyncio.Task[None]") -> None:
    task.result()
