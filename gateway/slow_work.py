"""Work that would block the event loop: done in threads, the cheapest first.

The cost of a request is known once the headers of its images are read. A job starts with a modest allowance; one that
needs more stops before it has spent anything, and is queued again with its real cost. One thread takes the cheapest
job, a second one only modest jobs: so a modest job never waits for an expensive one, and no two expensive ones take
memory at once.
"""

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from fashion_mnist.decoding.limits import TooSlow
from fashion_mnist.errors import Overloaded

MODEST_COST: Final = 2**22
"""In pixels; decoding them takes some 30 ms."""

MAX_JOBS: Final = 256
"""Jobs that may be queued; further ones are refused."""

MAX_WAIT_S: Final = 5.0
"""A job that has been queued for longer is refused."""

_UNBOUNDED: Final = float("inf")

Work: TypeAlias = Callable[[float], Any]
"""Takes an allowance in pixels. Raises TooSlow if it needs more."""


class _Job:
    __slots__ = ("cost", "is_cancelled", "loop", "number", "since", "then", "work")

    def __init__(
        self, number: int, cost: float, work: Work, then: Callable[[Any], None], is_cancelled: Callable[[], bool]
    ) -> None:
        self.number = number
        self.cost = cost
        self.work = work
        self.then = then
        self.is_cancelled = is_cancelled
        self.since = time.monotonic()
        self.loop = asyncio.get_running_loop()

    def __lt__(self, other: "_Job") -> bool:
        return (self.cost, self.number) < (other.cost, other.number)

    def end(self, result: Any) -> None:
        """Deliver the result or the exception on the event loop. Called in a thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.then, result)


class SlowWork:
    """The queued jobs of one gateway, and the two threads that run them."""

    def __init__(self, max_cost: float) -> None:
        """`max_cost` limits the cost of all queued jobs together, in pixels."""
        self._max_cost = max_cost
        self._changed = threading.Condition()
        self._jobs: list[_Job] = []
        self._cost = 0.0
        self._numbers = itertools.count()
        self._threads = [
            threading.Thread(target=self._run, args=(max_cost,), name=f"slow-{name}", daemon=True)
            for name, max_cost in (("any", _UNBOUNDED), ("modest", MODEST_COST))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, cost: float, work: Work, then: Callable[[Any], None], is_cancelled: Callable[[], bool]) -> None:
        """Queue `work`, which costs at least `cost` pixels.

        `then` gets its result or exception on the event loop. If `is_cancelled` returns true when the job's turn comes,
        the work is not done and `then` gets Overloaded. Raises Overloaded if too much is queued.
        """
        with self._changed:
            if len(self._jobs) >= MAX_JOBS:
                raise Overloaded("too many large requests at once: retry in a moment")
            self._queue(_Job(next(self._numbers), cost, work, then, is_cancelled))

    def _queue(self, job: _Job) -> None:
        # A single job is limited elsewhere.
        if self._jobs and self._cost + job.cost > self._max_cost:
            raise Overloaded("large images of other requests are being decoded: retry in a moment")
        self._cost += job.cost
        heapq.heappush(self._jobs, job)
        self._changed.notify_all()

    def _take(self, max_cost: float) -> _Job:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs and self._jobs[0].cost <= max_cost)
            job = heapq.heappop(self._jobs)
            self._cost -= job.cost
            return job

    def _run(self, max_cost: float) -> None:
        while True:
            self._do(self._take(max_cost))

    def _do(self, job: _Job) -> None:
        if job.is_cancelled() or time.monotonic() - job.since > MAX_WAIT_S:
            job.end(Overloaded("the request waited too long for large images of others: retry in a moment"))
            return
        try:
            job.end(job.work(_UNBOUNDED if job.cost > MODEST_COST else MODEST_COST))
        except TooSlow as slow:
            job.cost = max(slow.cost, MODEST_COST + 1.0)
            try:
                with self._changed:
                    self._queue(job)
            except Overloaded as overloaded:
                job.end(overloaded)
        except BaseException as error:
            job.end(error)
