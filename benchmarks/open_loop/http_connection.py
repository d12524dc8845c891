"""A sender's connections of HTTP/1.1: one request at a time on each, read by httptools."""

import asyncio
from typing import ClassVar, cast

import httptools

from benchmarks.open_loop.sender import Connection, Query, Sender
from loadtest.kinds import Sent


class HTTPConnection(Connection, asyncio.Protocol):
    """One of them."""

    max_slots: ClassVar[int] = 1

    def __init__(self, sender: Sender, slots: int) -> None:
        super().__init__(sender, slots)
        self._query: Query | None = None
        self._answered = False
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @staticmethod
    def written(netloc: str, request: Sent) -> bytes:
        headers = {"Host": netloc, "Content-Length": str(len(request.body)), **request.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {request.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body

    async def connect(self, host: str, port: int) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was lost before a request was sent")

    @property
    def transport(self) -> asyncio.Transport:
        """What there is after `connect`."""
        assert self._transport is not None
        return self._transport

    def send(self, query: Query, content: bytes) -> None:
        self._query = query
        self.transport.write(content)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def give_up(self, latest: float) -> None:
        if self._query is not None and self._query.sent < latest:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()
        # Not before all of it is read: more of it would be taken for the answer to what is sent next.
        if self._answered and not self.transport.is_closing():
            self._answered = False
            self.sender.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.sender.lost(self)
        self._answer(0, b"")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return  # the answer is still to come
        if self._query is None:
            self.transport.abort()  # to what was never asked
            return
        body, self._body = b"".join(self._body), []
        keep = self._parser.should_keep_alive()
        self._answer(self._parser.get_status_code(), body)
        self._answered = True
        if not keep:
            self.transport.close()

    def _answer(self, status: int, body: bytes) -> None:
        query, self._query = self._query, None
        if query is not None:
            self.sender.answered(query, status, body)
