"""What came of the requests: latencies to one part in a hundred, failures by what went wrong, wrong labels.

Locust rounds latencies to two digits and to whole milliseconds, which is too coarse for a server that answers in two.
Each process records by itself; workers send what they have to the master with their reports, every three seconds.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from loadtest.scenario import Stage

RESOLUTION: Final = 1.01
"""The ratio of a bucket's upper end to its lower."""

MOST_MESSAGES: Final = 50
"""Different messages that are kept; the rest are counted together."""

_LOG: Final = math.log(RESOLUTION)
_LEAST_MS: Final = 0.01


def bucket(ms: float) -> int:
    """The bucket of a latency; that of `upper_ms(bucket)` and all above the one before."""
    return max(0, math.ceil(math.log(max(ms, _LEAST_MS) / _LEAST_MS) / _LOG))


def upper_ms(place: int) -> float:
    """The upper end of a bucket, in milliseconds."""
    return float(_LEAST_MS * RESOLUTION**place)


@dataclass
class Seen:
    """What was seen in some time: latencies of right answers by kind and bucket, and messages with their number."""

    latencies: dict[str, Counter[int]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    wrong_labels: Counter[str] = field(default_factory=Counter)
    images: int = 0
    """Of right answers."""

    def right(self, kind: str, ms: float, images: int) -> None:
        """An answer with the right labels came."""
        self.latencies.setdefault(kind, Counter())[bucket(ms)] += 1
        self.images += images

    def failed(self, message: str) -> None:
        """A request failed, or its answer could not be read."""
        _count(self.failures, message, 1)

    def wrong(self, message: str) -> None:
        """An answer had a wrong label; that is a failure too."""
        _count(self.wrong_labels, message, 1)

    def merge(self, other: "Seen") -> None:
        """Add what another process has seen."""
        for kind, counts in other.latencies.items():
            self.latencies.setdefault(kind, Counter()).update(counts)
        for message, count in other.failures.items():
            _count(self.failures, message, count)
        for message, count in other.wrong_labels.items():
            _count(self.wrong_labels, message, count)
        self.images += other.images

    def to_report(self) -> dict[str, Any]:
        """What a worker sends; `from_report` reads it."""
        return {
            "latencies": {kind: list(counts.items()) for kind, counts in self.latencies.items()},
            "failures": dict(self.failures),
            "wrong_labels": dict(self.wrong_labels),
            "images": self.images,
        }

    @classmethod
    def from_report(cls, said: Mapping[str, Any]) -> Self:
        """What a worker sent."""
        return cls(
            {kind: Counter(dict(map(tuple, pairs))) for kind, pairs in said["latencies"].items()},
            Counter(said["failures"]),
            Counter(said["wrong_labels"]),
            said["images"],
        )

    @property
    def answered(self) -> int:
        """Requests with right answers."""
        return sum(counts.total() for counts in self.latencies.values())

    @property
    def requests(self) -> int:
        """All of them."""
        return self.answered + self.failures.total() + self.wrong_labels.total()

    def distribution(self, kinds: Iterable[str] | None = None) -> Counter[int]:
        """Right answers by bucket, of all kinds or of some."""
        total: Counter[int] = Counter()
        for kind in self.latencies if kinds is None else kinds:
            total.update(self.latencies.get(kind, Counter()))
        return total


def quantile(distribution: Mapping[int, int], share: float) -> float:
    """The latency in milliseconds that this share of the answers did not exceed; NaN where there are none."""
    wanted = math.ceil(share * sum(distribution.values()))
    for place in sorted(distribution):
        wanted -= distribution[place]
        if wanted <= 0:
            return upper_ms(place)
    return math.nan


@dataclass
class Period:
    """A stage's ramp, or its hold, which alone is judged."""

    stage: Stage
    held: bool
    seen: Seen = field(default_factory=Seen)
    seconds: float = 0.0


class Recorder:
    """The periods of a run, of which the last goes on."""

    def __init__(self) -> None:
        self.seen = Seen()
        """What came in before the first period, and in a worker all that was not sent yet."""
        self.periods: list[Period] = []
        self._began = time.monotonic()

    def begin(self, stage: Stage, *, held: bool) -> None:
        """The period before is over, another one begins."""
        self.end()
        self.periods.append(Period(stage, held))
        self.seen = self.periods[-1].seen

    def end(self) -> None:
        """The last period is over."""
        now = time.monotonic()
        if self.periods and not self.periods[-1].seconds:
            self.periods[-1].seconds = now - self._began
        self._began = now

    def take(self) -> Seen:
        """What was seen since it was last taken."""
        seen, self.seen = self.seen, Seen()
        return seen


def _count(counts: Counter[str], message: str, number: int) -> None:
    counts[message if message in counts or len(counts) < MOST_MESSAGES else "others"] += number
