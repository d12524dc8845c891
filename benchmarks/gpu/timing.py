"""How long calls take, on a device that goes on computing when a call has returned."""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

WARM_UP_CALLS: Final = 5


def measure(
    call: Callable[[], object], images: int, seconds: float, settle: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Images a second of calls in a row, and the median and 99th percentile of one that is waited for.

    `settle` waits until the device has done what it was given.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    settle()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds / 2:
        call()
        calls += 1
    settle()
    rate = calls * images / (time.perf_counter() - started)
    taken: list[float] = []
    started = time.perf_counter()
    while (before := time.perf_counter()) - started < seconds / 2:
        call()
        settle()
        taken.append(time.perf_counter() - before)
    p50, p99 = np.percentile(taken, [50, 99]) * 1e6
    return {"images/s": round(rate), "p50 us": round(float(p50), 1), "p99 us": round(float(p99), 1)}
