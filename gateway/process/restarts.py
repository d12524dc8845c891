"""How soon a process that ends again and again is started again."""

import random
import time
from typing import Final

PER_S: Final = 60.0
"""Ends that lie further back are forgotten."""

FIRST_S: Final = 0.25
MOST_S: Final = 5.0


class Restarts:
    """The ends of one process, and when the next one may start: at once, then later and later, with jitter."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._due = 0.0

    def ended(self) -> None:
        """It ended now."""
        now = time.monotonic()
        self._ends = [end for end in self._ends if now - end < PER_S] + [now]
        earlier = len(self._ends) - 1
        pause_s = min(MOST_S, FIRST_S * 2 ** (earlier - 1)) if earlier else 0.0
        # Several that ended together need not start together.
        self._due = now + pause_s * random.uniform(0.5, 1.5)

    @property
    def due(self) -> bool:
        """Whether it may start."""
        return time.monotonic() >= self._due
