"""Batches the images of many requests.

A batch is formed whenever the engine can take one: a single image is sent at once, and under load batches grow by
themselves, because more images arrive while the engine is busy. There is no delay to tune.

Requests take turns (round robin). In each round a request gives at most QUANTUM images and goes to the end of the
queue, so a single image waits for the batches in flight and for one round of earlier requests, whatever their size.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError, Overloaded, RequestTimeout, Unavailable
from fashion_mnist.predictions import Probabilities
from gateway.models.engines import Backend
from gateway.types.job import TOO_LATE, Batch, Job, Piece

log = logging.getLogger(__name__)

QUANTUM: Final = 64
"""Images that a request gives to a batch per turn, at most."""


class Batcher:
    """The queue in front of an engine. All methods run on one event loop."""

    def __init__(self, engine: Backend, max_queued_images: int) -> None:
        self._engine = engine
        self._max_waiting = max_queued_images
        self._queue: deque[Job] = deque()
        self._in_flight = 0
        self._wake_up: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.tracing: Callable[[list[Any], int], AbstractContextManager[None]] | None = None
        """A context around each batch; takes the spans of its requests and its number of images."""
        self.on_batch: Callable[[Pixels, Probabilities], None] = lambda images, probabilities: None
        self.on_failure: Callable[[FashionMNISTError], None] = lambda error: None

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and no batch is in flight."""
        return not self._queue and not self._tasks

    def submit(self, job: Job) -> None:
        """Put a job into the queue. Raises Overloaded if the queue is full."""
        if self.waiting >= self._max_waiting:
            self.check_room()
        self.waiting += job.waiting
        self._queue.append(job)
        # Once per turn of the loop, so that everything received in it goes together.
        if self._wake_up is None:
            self._wake_up = asyncio.get_running_loop().call_soon(self._fill)

    def check_room(self) -> None:
        """Raise Overloaded if the queue has reached its limit; the last request may exceed it."""
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting:,} images are queued already: retry in a moment")

    async def close(self) -> None:
        """Wait for the batches in flight."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fill(self) -> None:
        """Send batches while the engine wants one more."""
        self._wake_up = None
        while self._queue and self._engine.wants(self._in_flight, self.waiting):
            pieces = self._take()
            if not pieces:
                return
            self._in_flight += 1
            task = asyncio.get_running_loop().create_task(self._run(pieces))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[Piece]:
        """Take the next batch from the queue."""
        pieces: list[Piece] = []
        queue, room, now = self._queue, self._engine.max_batch, time.perf_counter()
        while room and queue:
            job = queue.popleft()
            before = job.waiting
            if job.expires < now:
                job.fail(RequestTimeout(TOO_LATE))
            if job.cancelled:
                self.waiting -= before
                continue
            pieces.append(job.take(min(room, QUANTUM) if queue else room))
            taken = before - job.waiting
            room -= taken
            self.waiting -= taken
            if job.waiting:
                queue.append(job)
        return pieces

    async def _run(self, pieces: list[Piece]) -> None:
        images = pieces[0][2] if len(pieces) == 1 else np.concatenate([pixels for _, _, pixels in pieces])
        started = time.perf_counter()
        try:
            if self.tracing is None:
                probabilities = await self._engine.predict(images)
            else:
                spans = {id(job): job.span for job, _, _ in pieces if job.span is not None}
                with self.tracing(list(spans.values()), len(images)):
                    probabilities = await self._engine.predict(images)
        except FashionMNISTError as error:
            self._fail(pieces, error)
        except Exception:
            log.exception("the engine failed")
            self._fail(pieces, Unavailable("the engine failed: retry, and see the server's log"))
        else:
            self.on_batch(images, probabilities)
            self._in_flight -= 1
            # First, so that the engine computes the next batch while this one's answers are written.
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
