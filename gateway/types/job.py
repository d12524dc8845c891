"""One request's images on their way through an engine."""

import logging
import time
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.predictions import Probabilities, json_rows
from fashion_mnist.task import Task

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

TOO_LATE: Final = "the deadline passed before its turn came: ask again with a later one"

FEW: Final = 16
"""Images of a request whose answer is written together with that of others."""

_NEVER: Final = float("inf")
_NOTHING: Final = np.empty((0, 1), np.float32)


class Batch:
    """What the engine said of one batch, and when."""

    __slots__ = ("_rows", "ended", "probabilities", "started")

    def __init__(self, probabilities: Probabilities, started: float, ended: float) -> None:
        """`probabilities` is float32 [n, classes]; the times are those of `time.perf_counter`."""
        self.probabilities = probabilities
        self.started = started
        self.ended = ended
        self._rows: list[bytes] | None = None

    def rows(self, unknown_threshold: float, task: Task) -> list[bytes]:
        """Each image's part of an answer as JSON. Written for all of them at once, when the first is asked for."""
        if self._rows is None:
            self._rows = json_rows(self.probabilities, unknown_threshold, task)
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
        """`pixels` is uint8 [n, channels, height, width]."""
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

    def rows(self, unknown_threshold: float, task: Task) -> list[bytes] | None:
        """Each image's part of an answer as JSON, where they are few and were all in one batch.

        Threshold and task are the model's, so the same for all that share a batch.
        """
        count = len(self.probabilities)
        if self._batch is None or count > FEW:
            return None
        return self._batch.rows(unknown_threshold, task)[self._row : self._row + count]

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
                self.probabilities = np.empty((size, batch.probabilities.shape[1]), np.float32)
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
