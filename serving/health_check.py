"""Asking a process over and over whether it still answers: one that hangs is not dead, and serves nobody."""

import threading
from collections.abc import Callable
from typing import Final

from serving import readiness

INTERVAL_S: Final = 1.0
AGAIN_S: Final = 0.1
"""So long after a check that was not answered comes the next one."""


class HealthCheck:
    """The health checks of one process, in a thread of their own."""

    def __init__(self, ask: Callable[[], object], failures: int) -> None:
        """`ask` raises readiness.Silent where nothing comes in time; `failures` of that in a row are too many."""
        self._ask = ask
        self._failures = failures
        self._silences = 0
        self._answered = False
        self._start = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="health check", daemon=True).start()

    @property
    def silent(self) -> bool:
        """Whether the process answered once, and has been silent too often in a row since."""
        return self._silences >= self._failures

    def restart(self) -> None:
        """The process was started anew, and has time until its first answer."""
        with self._lock:
            self._start += 1
            self._silences, self._answered = 0, False

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(AGAIN_S if self._silences else INTERVAL_S):
            start, silent = self._start, False
            try:
                self._ask()
            except readiness.Silent:
                silent = True
            except readiness.NotReady:
                continue  # it says so, or is being started: others look after that
            with self._lock:
                if start == self._start:
                    self._answered |= not silent
                    self._silences = self._silences + 1 if silent and self._answered else 0
