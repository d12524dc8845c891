"""How much a client of HTTP/2 may do that is no request: one rule for both of our ways to speak it.

Much of the protocol costs a client a few bytes, us some work, and nobody wants it. It is counted from one tick of the
server's clock to the next; past a budget the connection ends with ENHANCE_YOUR_CALM.
"""

from typing import Final

from fashion_mnist import http2_frames as frames

HEAD_COST: Final = 256 * 1024
"""Of the heads that are read between two ticks: a byte costs one, a field FIELD_COST; some 0.1 s of hpack."""

FIELD_COST: Final = 12

HEAD_AN_ANSWER: Final = 512
"""Of heads, what each answer makes up for: one with an id and a span of its own, read anew each time, is half of it."""

RESETS: Final = 256
"""Requests that may end before their answer, by the client's word (CVE-2023-44487) or by its mistakes (CVE-2025-8671);
of those that are answered half as many again."""

FRAMES_AN_ANSWER: Final = 8
"""Such frames that each answer makes up for. gRPC's own client sends three with a request where it is answered quickly:
windows, and pings by which it measures how far away we are."""

SETTINGS_ENTRIES: Final = 32
"""Of one frame; there are seven settings."""

SETTINGS_FRAMES: Final = 50
"""Between two ticks, where nothing else is sent."""


class TooMuch(Exception):
    """The client is to calm down: its connection is at an end."""


class Patience:
    """What is left of it with one client. Each method but `renew` raises TooMuch where it is over."""

    __slots__ = ("_answered_before", "_chatter", "_heads", "_most", "_resets", "answered")

    def __init__(self, chatter: int) -> None:
        """`chatter` is how many frames without a request or data may come between two ticks."""
        self._most = chatter
        self._chatter = self._heads = self._resets = 0
        self._answered_before = 0  # the last tick
        self.answered = 0
        """Requests that were, to be counted up by whoever answers."""

    def renew(self) -> None:
        """The clock ticks."""
        self._chatter = self._heads = 0
        self._answered_before = self.answered

    def chat(self, cost: int = 1) -> None:
        """A frame came that holds neither a request nor data."""
        self._chatter += cost
        if self._chatter > self._most + FRAMES_AN_ANSWER * (self.answered - self._answered_before):
            raise TooMuch

    def take_data(self, length: int) -> None:
        """Data came: 64 bytes make up for a frame."""
        self._chatter = max(0, self._chatter - length // 64)
        self.chat()

    def take_settings(self, entries: int) -> None:
        """Settings came."""
        if entries > SETTINGS_ENTRIES:
            raise TooMuch
        self.chat(self._most // SETTINGS_FRAMES)

    def take_window(self, waiting: int) -> None:
        """Room came, and so many answers that wait for some are looked at."""
        self.chat(1 + waiting // 64)

    def take_head(self, length: int, fields: int) -> None:
        """A head was read, of so many bytes and fields."""
        self._heads += length + FIELD_COST * fields
        if self._heads > HEAD_COST + HEAD_AN_ANSWER * (self.answered - self._answered_before):
            raise TooMuch

    def reset(self) -> None:
        """A request ended before its answer."""
        self._resets += 1
        if self._resets > RESETS + self.answered // 2:
            raise TooMuch


class FrameHeads:
    """The frames that a client sends, looked at before a library reads them: it does not tell of all of them."""

    __slots__ = ("_patience", "_rest", "_skip", "in_block")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._rest = b""
        self._skip = len(frames.PREFACE)
        self.in_block = False
        """Whether the end of a header block is still to come."""

    def look(self, data: bytes, waiting: int) -> None:
        """Count what came, while so many answers wait. Raises TooMuch."""
        patience = self._patience
        data, position = self._rest + data, self._skip
        while position + frames.HEAD.size <= len(data):
            length, kind, flags = int.from_bytes(data[position : position + 3]), data[position + 3], data[position + 4]
            position += frames.HEAD.size + length
            if kind == frames.DATA:
                patience.take_data(length)
            elif kind == frames.SETTINGS and not flags & frames.ACK:
                patience.take_settings(length // 6)
            elif kind == frames.WINDOW_UPDATE:
                patience.take_window(waiting)
            elif kind in (frames.HEADERS, frames.CONTINUATION):
                self.in_block = not flags & frames.END_HEADERS
                patience.take_head(length, 0)
            else:
                patience.chat()
        self._rest, self._skip = data[position:], max(0, position - len(data))
