"""One client's HTTP/1.1 connection: the order of its answers, its share of the event loop, and its deadlines."""

import asyncio
import time
from collections import deque
from typing import Final, cast

from fashion_mnist.errors import FashionMNISTError, RequestTimeout
from fashion_mnist.predictions import Answer
from gateway.http.reader import BODY_BYTES_PER_S, Reader
from gateway.http.server import LINGER_S, Server
from gateway.types.errors import answer_error, headers_of
from gateway.types.request import Head, Request

PIPELINED: Final = 16
"""Requests of one connection that may be unanswered at a time; reading pauses at that number."""

IDLE_S: Final = 1.0
"""A connection counts as idle this long after its last answer, or after it was opened."""

TURN_S: Final = 0.001
"""How long the event loop works for one connection before it serves the others."""

_BARE_400: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_NEVER: Final = float("inf")
_NOTHING: Final = memoryview(b"")


class Connection(asyncio.Protocol):
    """Answers requests in the order in which they arrived."""

    __slots__ = (
        "_lingering",
        "_parsing",
        "_reader",
        "_reading",
        "_requests",
        "_transport",
        "_turn_due",
        "_unparsed",
        "_writable",
        "_write_deadline",
        "deadline",
        "server",
        "stopped",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.deadline = server.now + server.settings.idle_timeout_s
        """When the client must have sent what it is expected to send, by `server.now`."""
        self.stopped = False
        """Whether no more requests are read."""
        self._reader = Reader(self, server)
        self._requests: deque[Request] = deque()  # received, in order, and not answered yet
        self._parsing = False  # answers are sent afterwards
        self._unparsed = _NOTHING  # received, and left for the connection's next turn
        self._turn_due = False
        self._lingering = False  # the last answer is sent
        self._reading = self._writable = True
        self._write_deadline = _NEVER  # for a client that does not read

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if len(self.server.connections) >= self.server.settings.max_connections:
            self.stopped = True
            self._transport.abort()
        else:
            self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.stopped:
            return
        if self._unparsed:
            self._set_unparsed(memoryview(bytes(self._unparsed) + data))
            return
        end = 0
        if self._reader.request is None:
            # Between two requests. A complete request whose head is in the cache need not be parsed.
            found = data.find(_HEAD_END)
            end = found + len(_HEAD_END) if found >= 0 else 0
            head = self.server.head_cache.get(data[:end])
            if head is not None and len(data) - end == int(head.content_length):
                self._reader.receive_cached(head, data[end:])
                return
        self._reader.new_head = data[:end]
        self._parse(memoryview(data), end)

    def eof_received(self) -> bool:
        # A client that disconnects looks like one that closes only its half; do not compute answers that nobody reads.
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.stopped = True
        self._reader.forget()
        self._set_unparsed(_NOTHING)
        self.server.connections.discard(self)
        for request in self._requests:
            self.server.buffered_bytes -= len(request.body)
            request.cancelled = True
            if request.on_cancel is not None:
                request.on_cancel()
        self._requests.clear()

    def pause_writing(self) -> None:
        # The client reads slowly or not at all: stop reading from it, and give it the time that a body would get.
        self._writable = False
        left = self._transport.get_write_buffer_size()
        self._write_deadline = self.server.now + self.server.settings.receive_timeout_s + left / BODY_BYTES_PER_S
        self._update_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self._write_deadline = _NEVER
        self._update_reading()
        self._start_idle_timeout()

    # What the reader calls

    def receive(self, request: Request) -> None:
        """Handle a complete request."""
        self.deadline = _NEVER
        self._requests.append(request)
        if len(self._requests) >= PIPELINED and not self._parsing:
            self._update_reading()
        self.server.handle(request)

    def refuse(self, error: FashionMNISTError) -> None:
        """Answer the request that is being received with an error, and read no further."""
        request = self._reader.request
        answer = answer_error(request.url if request else b"", error)
        self.server.on_refusal(error)
        origin = request.head.origin if request else ""
        headers = headers_of(error) + (self.server.cors(origin) if origin else b"")
        self._refuse(self.server.response(answer, headers + _CLOSE))

    def refuse_malformed(self) -> None:
        """Answer bytes that are not HTTP/1.1, and read no further."""
        if not self.stopped:
            self._refuse(_BARE_400)

    def send_continue(self) -> None:
        """Tell a client that sent `Expect: 100-continue` to send its body, unless earlier answers are still owed."""
        if not self.stopped and not self._requests:
            self._transport.write(_CONTINUE)

    # What requests call

    def answer(self, request: Request, answer: Answer, headers: bytes) -> None:
        """Send a request's answer once those of earlier requests are sent; `headers` are complete lines."""
        server = self.server
        if server.draining:
            self._close_after(request)
        lines = headers if request.keep_alive else headers + _CLOSE
        if request.head.origin:
            lines += server.cors(request.head.origin)
        request.response = server.response(answer, lines, with_body=request.head.method != b"HEAD")
        self._send_answers()

    # What the server calls

    def check_timeouts(self) -> None:
        """Close the connection if its deadline has passed."""
        now = self.server.now
        if now >= self._write_deadline or (self._lingering and now >= self.deadline):
            self._transport.abort()
        elif now < self.deadline or self._unparsed:
            return
        elif self._reader.request is not None:
            self.refuse(RequestTimeout("the request did not arrive in time: send it faster, or in parts"))
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Close the connection if no request is being received or answered, and none has been for IDLE_S."""
        idle_since = self.deadline - self.server.settings.idle_timeout_s
        idle = self._reader.request is None and not self._requests and not self._unparsed and not self._lingering
        if idle and self.server.now - idle_since >= IDLE_S:
            self._transport.close()

    # Turns and answers

    def _parse(self, data: memoryview, head_bytes: int = 0) -> None:
        """Parse received bytes for at most TURN_S, and leave the rest for the next turn.

        `head_bytes` is the length of the request head at their beginning, 0 if unknown.
        """
        reader, until = self._reader, time.perf_counter() + TURN_S
        self._parsing = True
        while data:
            size = reader.slice_bytes(head_bytes)
            self._set_unparsed(data[size:])
            head_bytes = 0
            data = data[reader.parse(data[:size]) :]
            self._write_answers()
            if self.stopped or not self._accepts_more() or time.perf_counter() > until:
                break
        self._parsing = False
        self._set_unparsed(_NOTHING if self.stopped else data)
        self._send_answers()

    def _set_unparsed(self, data: memoryview) -> None:
        """Keep bytes for the next turn; they count towards the budget for bodies."""
        self.server.buffered_bytes += len(data) - len(self._unparsed)
        self._unparsed = data

    def _parse_unparsed(self) -> None:
        self._turn_due = False
        if self._unparsed and self._accepts_more() and not self.stopped and not self._transport.is_closing():
            self._parse(self._unparsed)

    def _send_answers(self) -> None:
        """Send the answers that are ready, up to the first that is not."""
        if self._parsing or self._transport.is_closing():
            return
        self._write_answers()
        if not self._reading or self._unparsed or len(self._requests) >= PIPELINED:
            self._update_reading()
        if self.stopped and not self._requests:
            self._close_after_last_answer()
        else:
            self._start_idle_timeout()

    def _write_answers(self) -> None:
        """Write them in one call: writing is the most expensive part of an answer."""
        answers = []
        while self._requests and (response := self._requests[0].response) is not None:
            self.server.buffered_bytes -= len(self._requests.popleft().body)
            answers.append(response)
        if answers and not self._transport.is_closing():
            self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))

    def _close_after(self, request: Request) -> None:
        """Close the connection after a request's answer, unless further requests have arrived."""
        last = self._requests and self._requests[-1] is request and self._reader.request is None
        if last and not self._unparsed:
            request.keep_alive = False
            self.stopped = True

    def _start_idle_timeout(self) -> None:
        """Start the idle timeout if no answer is owed and no request is being received."""
        if not self._requests and self._reader.request is None and not self._lingering:
            self.deadline = self.server.now + self.server.settings.idle_timeout_s

    def _accepts_more(self) -> bool:
        """Whether the client reads its answers, and few enough are owed to parse further requests."""
        return self._writable and len(self._requests) < PIPELINED

    def _update_reading(self) -> None:
        """Pause reading from a client that sends faster than it is answered or than it reads; resume it afterwards."""
        accepts_more = self._accepts_more()
        if accepts_more and self._unparsed and not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._parse_unparsed)
        reading = accepts_more and not self._unparsed
        if reading != self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _close_after_last_answer(self) -> None:
        """Close the connection after its last answer."""
        if not self._transport.can_write_eof():
            self._transport.close()
        else:
            # Closing a socket while bytes arrive may destroy what it has sent (RFC 9112, 9.6). So close only our half
            # now, give the client time to read what is still in the buffer, and let it close the other half.
            self._lingering = True
            left = self._transport.get_write_buffer_size()
            self._transport.write_eof()
            self.deadline = self.server.now + LINGER_S + left / BODY_BYTES_PER_S

    def _refuse(self, response: bytes) -> None:
        """Answer what is being received before it is complete, and read no further."""
        self._reader.forget()
        self.stopped = True
        self.deadline = _NEVER
        request = Request(self, Head())
        request.response = response
        self._requests.append(request)
        self._send_answers()
