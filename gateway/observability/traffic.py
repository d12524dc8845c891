"""What the last minute's requests were like, and how far images have drifted, over all gateways: for people to read."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.drift import FIGURES, Reference
from fashion_mnist.task import FASHION_MNIST, Task
from gateway.observability.metrics import SECONDS, totals

WINDOW_S: Final = 60.0
SAMPLE_S: Final = 2.0
"""How far back one looks, and how often it is counted."""


class Traffic:
    """The figures of some files of `gateway.observability.metrics`, sampled now and then."""

    def __init__(self, paths: Sequence[Path], task: Task = FASHION_MNIST) -> None:
        self._paths = paths
        self._task = task
        self._samples: deque[tuple[float, float, NDArray[np.float64]]] = deque()

    def sample(self) -> None:
        """Keep how things stand; to be called often, and it seldom does something."""
        now = time.monotonic()
        if self._samples and now - self._samples[-1][0] < SAMPLE_S:
            return
        self._samples.append((now, *self._counted()))
        while now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()

    def report(self) -> dict[str, Any]:
        """`{"window_s", "requests_per_s", "p50_ms", "p99_ms"}`; the latter are None where nothing was answered."""
        now = time.monotonic()
        requests, times = self._counted()
        since, before, times_before = self._samples[0] if self._samples else (now, requests, times)
        window_s, answered = now - since, times - times_before
        p50, p99 = (_quantile(answered, share) for share in (0.5, 0.99))
        rate = (requests - before) / window_s if window_s else 0.0
        return {"window_s": round(window_s, 1), "requests_per_s": round(rate, 2), "p50_ms": p50, "p99_ms": p99}

    def drift(self, reference: Reference | None) -> dict[str, Any] | None:
        """The population stability indices against their thresholds; None where there is no reference."""
        if reference is None:
            return None
        window = totals(self._paths, self._task)["window"]
        images = int(window[0].sum())
        values = reference.index(window).tolist() if images >= reference.window else [None] * len(FIGURES)
        return {
            "images": images,
            "window": reference.window,
            "figures": [
                {"name": name, "value": value, "threshold": float(threshold)}
                for name, value, threshold in zip(FIGURES, values, reference.thresholds, strict=True)
            ],
        }

    def _counted(self) -> tuple[float, NDArray[np.float64]]:
        """All requests so far, whatever came of them, and the histogram of the times of those that were answered."""
        found = totals(self._paths, self._task)
        return float(found["codes"].sum()), found["times"][0]


def _quantile(counts: NDArray[np.float64], share: float) -> float | None:
    """In milliseconds: within its bucket as if times were spread evenly there. Beyond the last bound, that."""
    total = float(counts.sum())
    if total <= 0:
        return None
    ends = np.cumsum(counts)
    place = int(np.searchsorted(ends, share * total))
    if place >= len(SECONDS):
        return 1e3 * SECONDS[-1]
    lower = SECONDS[place - 1] if place else 0.0
    within = (share * total - (float(ends[place - 1]) if place else 0.0)) / float(counts[place])
    return round(1e3 * (lower + within * (SECONDS[place] - lower)), 3)
