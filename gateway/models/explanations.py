"""The explanations of one gateway: computed in a thread of their own, one after another, and few may wait.

While there are many predictions, the thread rests between two explanations, so that it computes for a small part of the
time: then too few predictions meet it to change even their slowest percent.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fashion_mnist.errors import Overloaded

MAX_WAITING: Final = 8
"""Requests that may be in it at once; one more is refused."""

BUSY_PER_S: Final = 100.0
"""From so many predictions a second on it rests."""

RESTS: Final = 200.0
"""For how many times as long as an explanation took; it is then active for half a percent of the time."""

MAX_REST_S: Final = 1.0


class Explanations:
    """The queue, and its thread. Everything else in it runs on the event loop."""

    def __init__(self, predictions: Callable[[], int]) -> None:
        """`predictions` counts those that were answered; any thread may call it."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._waiting = 0
        self._pace = Pace(predictions)
        self._closed = threading.Event()

    def enter(self) -> None:
        """Take a place; `leave` gives it back. Raises Overloaded where there is none."""
        if self._waiting >= MAX_WAITING:
            raise Overloaded("too many explanations at once: send it again a moment later")
        self._waiting += 1

    def leave(self) -> None:
        """Give a place back."""
        self._waiting -= 1

    def submit(self, work: Callable[[], Any], then: Callable[[Any], None], gone: Callable[[], bool]) -> None:
        """Do `work` in the thread; `then` gets its result, or its exception, on the event loop.

        Where `gone` says so when its turn comes, nothing is done, and `then` gets None.
        """
        loop = asyncio.get_running_loop()

        def run() -> None:
            result: Any = None
            started = time.thread_time()
            try:
                if not gone():
                    result = work()
            except BaseException as error:
                result = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(then, result)
            self._closed.wait(self._pace.rest_s(time.thread_time() - started, time.monotonic()))

        self._thread.submit(run)

    def close(self) -> None:
        """Compute nothing more."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


class Pace:
    """How long to rest after an explanation, by how many predictions there were since the last one."""

    def __init__(self, predictions: Callable[[], int]) -> None:
        """`predictions` counts those that were answered."""
        self._predictions = predictions
        self._before = (time.monotonic(), predictions())

    def rest_s(self, took_s: float, now: float) -> float:
        """Seconds to rest after one that took `took_s` of processor time, `now` by `time.monotonic`."""
        then, answered = self._before
        self._before = (now, self._predictions())
        busy = self._before[1] - answered >= BUSY_PER_S * (now - then)
        return min(RESTS * took_s, MAX_REST_S) if busy and now > then else 0.0
