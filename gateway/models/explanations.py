"""The explanations of one gateway: computed in a thread of their own, one after another, and few may wait.

The thread gives way to all others on the machine, so that predictions do not wait for what somebody looks at.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fashion_mnist.errors import Overloaded

MOST_WAITING: Final = 8
"""Requests that may be in it at once; one more is refused."""

_NICENESS: Final = 10


class Explanations:
    """The queue, and its thread. Everything else in it runs on the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain", initializer=_give_way)
        self._inside = 0

    def enter(self) -> None:
        """Take a place; `leave` gives it back. Raises Overloaded where there is none."""
        if self._inside >= MOST_WAITING:
            raise Overloaded("too many explanations at once: send it again a moment later")
        self._inside += 1

    def leave(self) -> None:
        """Give a place back."""
        self._inside -= 1

    def submit(self, work: Callable[[], Any], then: Callable[[Any], None], is_cancelled: Callable[[], bool]) -> None:
        """Do `work` in the thread; `then` gets its result, or its exception, on the event loop.

        Where `is_cancelled` says so when its turn comes, nothing is done, and `then` gets None.
        """
        loop = asyncio.get_running_loop()

        def run() -> None:
            result: Any = None
            try:
                if not is_cancelled():
                    result = work()
            except BaseException as error:
                result = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(then, result)

        self._thread.submit(run)

    def close(self) -> None:
        """Compute nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _give_way() -> None:
    """Lower the priority of this thread: Linux has one for each."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
