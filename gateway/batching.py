"""Images of many requests, packed into batches.

A batch is taken whenever the engine has room for one: a lone image goes at once, and under load batches grow by
themselves, because more images come while the engine is busy. There is no delay to tune.

Requests take turns. In each round one gives at most QUANTUM images and goes to the end of the line, so a single image
waits for the batches in flight and for one round of those before it, however many images they hold.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from fashion_mnist.classes import CLASSES
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError, Overloaded, RequestTimeout, Unavailable
from fashion_mnist.predictions import Probabilities, json_rows
from gateway.engines import Backend

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from gateway.traces import Traces

log = logging.getLogger(__name__)

QUANTUM: Final = 64
"""The most images that a request gives before others have their turn."""

TOO_LATE: Final = "the deadline passed before its turn came: ask again with a later one"

_NEVER: Final = float("inf")

FEW: Final = 16
"""Images of a request whose answer is written together with that of others."""


class Batch:
    """What the engine said of one batch, and when."""

    __slots__ = ("_rows", "ended", "probabilities", "started")

    def __init__(self, probabilities: Probabilities, started: float, ended: float) -> None:
        """`probabilities` is float32 [n, 10]; the times are those of `time.perf_counter`."""
        self.probabilities = probabilities
        self.started = started
        self.ended = ended
        self._rows: list[bytes] | None = None

    def rows(self, unknown_threshold: float) -> list[bytes]:
        """Each image's part of an answer as JSON. Written for all of them at once, when the first is asked for."""
        if self._rows is None:
            self._rows = json_rows(self.probabilities, unknown_threshold)
        return self._rows


class Job:
    """One request's images on their way through the engine, and the times at which it got there."""

    __slots__ = (
        "_batch",
        "_missing",
        "_pixels",
        "_row",
        "cancelled",
        "ended",
        "expires",
        "probabilities",
        "queued",
        "span",
        "started",
        "waiting",
    )

    def __init__(self, pixels: Pixels) -> None:
        """`pixels` is uint8 [n, 28, 28]."""
        self._pixels = pixels
        self._missing = self.waiting = len(pixels)
        """Images, those of them without an answer; and those that no batch has taken yet."""
        self.probabilities: Probabilities = _NOTHING
        self._batch: Batch | None = None  # the only one
        self._row = 0  # its place there
        self.queued = time.perf_counter()
        self.started = self.ended = 0.0
        self.expires = _NEVER
        """When nobody waits for the answer any more, where that is known beforehand; by `time.perf_counter`."""
        self.cancelled = False
        """Whether nobody waits for the answer any more."""
        self.span: Span | None = None
        """Its request's, where that is traced."""

    def done(self, error: FashionMNISTError | None) -> None:
        """All images have their probabilities, or it is known why not. Called once, unless cancelled before."""
        raise NotImplementedError

    def rows(self, unknown_threshold: float) -> list[bytes] | None:
        """Each image's part of an answer as JSON, where they are few and were all in one batch.

        The threshold is the model's, so the same for all that share a batch.
        """
        count = len(self.probabilities)
        if self._batch is None or count > FEW:
            return None
        return self._batch.rows(unknown_threshold)[self._row : self._row + count]

    def cancel(self) -> None:
        """Nobody waits for the answer: what no batch has taken yet is dropped."""
        self.cancelled = True

    def take(self, count: int) -> "Piece":
        """The next images, at most so many."""
        size = len(self._pixels)
        start = size - self.waiting
        if not start and count >= size:
            self.waiting = 0
            return self, 0, self._pixels
        pixels = self._pixels[start : start + count]
        self.waiting -= len(pixels)
        return self, start, pixels

    def deliver(self, start: int, batch: Batch, row: int, count: int) -> None:
        """Take the answers to `count` images from `start` on; they stand in the batch from `row` on."""
        if self.cancelled:
            return
        size = len(self._pixels)
        if count == size:
            self.probabilities = batch.probabilities[row : row + count]
            self._batch, self._row = batch, row
        else:
            if not len(self.probabilities):
                self.probabilities = np.empty((size, len(CLASSES)), np.float32)
            self.probabilities[start : start + count] = batch.probabilities[row : row + count]
        self._missing -= count
        if not start:
            self.started = batch.started
        if not self._missing:
            self.ended = batch.ended
            self._end(None)

    def fail(self, error: FashionMNISTError) -> None:
        """Learn that some images will have no answer: the request fails, and the rest is not computed in vain."""
        if not self.cancelled:
            self._end(error)

    def _end(self, error: FashionMNISTError | None) -> None:
        self.cancelled = True
        try:
            self.done(error)
        except Exception:
            # One request's alone: its neighbours in the batch still have their answers to come.
            log.exception("an answer could not be sent")


Piece: TypeAlias = tuple[Job, int, Pixels]
"""What a job gives to a batch: the place of the first image, and the images."""


class Batcher:
    """The line in front of an engine. Everything in it runs on one event loop."""

    def __init__(self, engine: Backend, max_waiting_images: int) -> None:
        self._engine = engine
        self._max_waiting = max_waiting_images
        self._line: deque[Job] = deque()
        self._in_flight = 0
        self._wake_up: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.traces: Traces | None = None
        self.on_batch: Callable[[Pixels, Probabilities], None] = lambda images, probabilities: None
        self.on_failure: Callable[[FashionMNISTError], None] = lambda error: None

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and no batch is in flight."""
        return not self._line and not self._tasks

    def submit(self, job: Job) -> None:
        """Put a job into the line. Raises Overloaded where the line is full."""
        if self.waiting >= self._max_waiting:
            self.check_room()
        self.waiting += job.waiting
        self._line.append(job)
        # Once in this turn of the loop: all that was received in it goes together.
        if self._wake_up is None:
            self._wake_up = asyncio.get_running_loop().call_soon(self._fill)

    def check_room(self) -> None:
        """Raise Overloaded where the line is full. It is full with the image that reaches the limit, not before."""
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting:,} images wait already: send yours again a moment later")

    async def close(self) -> None:
        """Wait for the batches in flight."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fill(self) -> None:
        """Give the engine batches while it has room, and a reason to take one more."""
        self._wake_up = None
        while self._line and self._engine.wants(self._in_flight, self.waiting):
            pieces = self._take()
            if not pieces:
                return
            self._in_flight += 1
            task = asyncio.get_running_loop().create_task(self._run(pieces))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[Piece]:
        """The next batch: the images of the requests whose turn it is."""
        pieces: list[Piece] = []
        line, room, now = self._line, self._engine.max_batch, time.perf_counter()
        while room and line:
            job = line.popleft()
            before = job.waiting
            if job.expires < now:
                job.fail(RequestTimeout(TOO_LATE))
            if job.cancelled:
                self.waiting -= before
                continue
            pieces.append(job.take(min(room, QUANTUM) if line else room))
            taken = before - job.waiting
            room -= taken
            self.waiting -= taken
            if job.waiting:
                line.append(job)
        return pieces

    async def _run(self, pieces: list[Piece]) -> None:
        images = pieces[0][2] if len(pieces) == 1 else np.concatenate([pixels for _, _, pixels in pieces])
        started = time.perf_counter()
        try:
            if self.traces is None:
                probabilities = await self._engine.predict(images)
            else:
                spans = {id(job): job.span for job, _, _ in pieces if job.span is not None}
                with self.traces.batch(list(spans.values()), len(images)):
                    probabilities = await self._engine.predict(images)
        except FashionMNISTError as error:
            self._fail(pieces, error)
        except Exception:
            log.exception("the engine failed")
            self._fail(pieces, Unavailable("the engine failed: try again, and see the server's log"))
        else:
            self.on_batch(images, probabilities)
            self._in_flight -= 1
            # The engine first: it computes the next batch while this one's answers are written.
            self._fill()
            batch, row = Batch(probabilities, started, time.perf_counter()), 0
            for job, start, pixels in pieces:
                job.deliver(start, batch, row, len(pixels))
                row += len(pixels)

    def _fail(self, pieces: list[Piece], error: FashionMNISTError) -> None:
        self._in_flight -= 1
        self.on_failure(error)
        for job, _, _ in pieces:
            job.fail(error)
        self._fill()


_NOTHING: Final = np.empty((0, len(CLASSES)), np.float32)
