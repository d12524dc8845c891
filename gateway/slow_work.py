"""Work that would hold up all others on the event loop: done in threads, the cheapest first.

What a request costs is known when its images' headers are read. A job begins with a modest allowance; one that needs
more gives up before it has spent anything, and waits again, at what it costs. One thread takes whatever is cheapest, a
second one only what is modest: so a modest job never waits for a dear one, and no two dear ones take memory at once.
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
"""In pixels; they take some 30 ms to decode."""

MOST_JOBS: Final = 256
"""Jobs that may wait; one more is refused."""

WAIT_S: Final = 5.0
"""A job that has waited so long is refused: what it waits for costs more than there is time."""

_UNBOUNDED: Final = float("inf")

Work: TypeAlias = Callable[[float], Any]
"""Takes an allowance in pixels. Raises TooSlow where it needs more."""


class _Job:
    __slots__ = ("cost", "gone", "loop", "number", "since", "then", "work")

    def __init__(
        self, number: int, cost: float, work: Work, then: Callable[[Any], None], gone: Callable[[], bool]
    ) -> None:
        self.number = number
        self.cost = cost
        self.work = work
        self.then = then
        self.gone = gone
        self.since = time.monotonic()
        self.loop = asyncio.get_running_loop()

    def __lt__(self, other: "_Job") -> bool:
        return (self.cost, self.number) < (other.cost, other.number)

    def end(self, result: Any) -> None:
        """Hand over the result, or the exception, on the event loop. Called in a thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.then, result)


class SlowWork:
    """The jobs of one gateway, and the two threads that do them."""

    def __init__(self, most_cost: float) -> None:
        """`most_cost` is what all jobs that wait may cost together, in pixels."""
        self._most_cost = most_cost
        self._changed = threading.Condition()
        self._jobs: list[_Job] = []
        self._cost = 0.0
        self._numbers = itertools.count()
        self._threads = [
            threading.Thread(target=self._run, args=(most,), name=f"slow-{name}", daemon=True)
            for name, most in (("any", _UNBOUNDED), ("modest", MODEST_COST))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._jobs)

    @property
    def full(self) -> bool:
        """Whether another job would be refused, whatever it costs. Read without the lock: it may change at once."""
        return self.waiting >= MOST_JOBS

    def submit(self, cost: float, work: Work, then: Callable[[Any], None], gone: Callable[[], bool]) -> None:
        """Do `work`, of which no more is known than that it costs at least so many pixels.

        `then` gets its result, or its exception, on the event loop; where `gone` says so meanwhile, nothing is done,
        and it gets Overloaded. Raises Overloaded where too much waits already.
        """
        with self._changed:
            if len(self._jobs) >= MOST_JOBS:
                raise Overloaded("too many large requests at once: send it again a moment later")
            self._put(_Job(next(self._numbers), cost, work, then, gone))

    def _put(self, job: _Job) -> None:
        # A job alone may cost what it will: its limits are others.
        if self._jobs and self._cost + job.cost > self._most_cost:
            raise Overloaded("large images of others are being decoded: send it again a moment later")
        self._cost += job.cost
        heapq.heappush(self._jobs, job)
        self._changed.notify_all()

    def _take(self, most: float) -> _Job:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs and self._jobs[0].cost <= most)
            job = heapq.heappop(self._jobs)
            self._cost -= job.cost
            return job

    def _run(self, most: float) -> None:
        while True:
            self._do(self._take(most))

    def _do(self, job: _Job) -> None:
        if job.gone() or time.monotonic() - job.since > WAIT_S:
            job.end(Overloaded("it waited too long for large images of others: send it again a moment later"))
            return
        try:
            job.end(job.work(_UNBOUNDED if job.cost > MODEST_COST else MODEST_COST))
        except TooSlow as slow:
            job.cost = max(slow.cost, MODEST_COST + 1.0)
            try:
                with self._changed:
                    self._put(job)
            except Overloaded as overloaded:
                job.end(overloaded)
        except BaseException as error:
            job.end(error)
