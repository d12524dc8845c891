"""One request's images on their way through the engine."""

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

TOO_LATE: Final = "the deadline passed while the request was queued: retry with a later one"

FEW: Final = 16
"""Requests with up to this many images have their JSON written together with that of the rest of the batch."""

_NEVER: Final = float("inf")
_NOTHING: Final = np.empty((0, 1), np.float32)


class Batch:
    """The engine's result for one batch, and its times."""

    __slots__ = ("_rows", "ended", "probabilities", "started")

    def __init__(self, probabilities: Probabilities, started: float, ended: float) -> None:
        """`probabilities` is float32 [n, classes]; the times are from `time.perf_counter`."""
        self.probabilities = probabilities
        self.started = started
        self.ended = ended
        self._rows: list[bytes] | None = None

    def rows(self, unknown_threshold: float, task: Task) -> list[bytes]:
        """Each image's part of the JSON answer. Written for the whole batch at the first call."""
        if self._rows is None:
            self._rows = json_rows(self.probabilities, unknown_threshold, task)
        return self._rows


class Job:
    """One request's images on their way through the engine, and the times of its stages."""

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
        self._missing = len(pixels)  # images without an answer
        self.waiting = len(pixels)
        """Images that are not in a batch yet."""
        self.probabilities: Probabilities = _NOTHING
        self._batch: Batch | None = None  # the one that has all images, if there is one
        self._row = 0  # of the first image in that batch
        self.queued = time.perf_counter()
        self.started = self.ended = 0.0
        self.expires = _NEVER
        """The client's deadline, by `time.perf_counter`."""
        self.cancelled = False
        """Whether the answer is no longer needed."""
        self.span: Span | None = None
        """The request's, if that is traced."""

    def done(self, error: FashionMNISTError | None) -> None:
        """Called once, when all images have their probabilities or the request has failed, unless it is cancelled."""
        raise NotImplementedError

    def rows(self, unknown_threshold: float, task: Task) -> list[bytes] | None:
        """Each image's part of the JSON answer if they are few and were in one batch, else None.

        Threshold and task are the model's, so the same for all requests of a batch.
        """
        count = len(self.probabilities)
        if self._batch is None or count > FEW:
            return None
        return self._batch.rows(unknown_threshold, task)[self._row : self._row + count]

    def cancel(self) -> None:
        """Drop the images that are not in a batch yet, because the answer is no longer needed."""
        self.cancelled = True

    def take(self, count: int) -> "Piece":
        """The next images for a batch, at most `count`."""
        size = len(self._pixels)
        start = size - self.waiting
        if not start and count >= size:
            self.waiting = 0
            return self, 0, self._pixels
        pixels = self._pixels[start : start + count]
        self.waiting -= len(pixels)
        return self, start, pixels

    def deliver(self, start: int, batch: Batch, row: int, count: int) -> None:
        """Take the results of `count` images from `start` on; in the batch they start at `row`."""
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
        """Fail the request, because some of its images have no result; the others are dropped."""
        if not self.cancelled:
            self._end(error)

    def _end(self, error: FashionMNISTError | None) -> None:
        self.cancelled = True
        try:
            self.done(error)
        except Exception:
            # Only this request fails: the rest of the batch still needs its answers.
            log.exception("an answer could not be sent")


Piece: TypeAlias = tuple[Job, int, Pixels]
"""A job's part of a batch: the index of its first image there, and the images."""
