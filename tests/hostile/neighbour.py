"""A well-behaved client, in a process of its own, beside others that are not: its latencies, its labels, its losses."""

import multiprocessing
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from tests.support.http import connected, read_answer, request

PAUSE_S: Final = 0.003
"""Between two requests: it takes a small part of a core."""
TIMEOUT_S: Final = 15.0


@dataclass
class Outcome:
    """What came of its requests."""

    counts: Counter[str] = field(default_factory=Counter)
    """right, wrong (a 200 with another label), refused (nobody listened), lost (no answer came), or a status."""
    latencies_ms: list[float] = field(default_factory=list)
    """Of right answers."""
    longest_gap_s: float = 0.0
    """The longest time without a right answer."""

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the latencies; infinite where nothing was answered."""
        found = sorted(self.latencies_ms)
        return found[int(0.99 * (len(found) - 1))] if found else float("inf")

    def figures(self) -> dict[str, object]:
        """For the report."""
        found: dict[str, object] = {"neighbour": dict(self.counts), "neighbour_longest_gap_s": self.longest_gap_s}
        if self.latencies_ms:
            found["neighbour_p99_ms"] = round(self.p99_ms, 2)
        return found


@dataclass(frozen=True)
class Images:
    """What it sends: raw images, and the label of each."""

    contents: Sequence[bytes]
    labels: Sequence[str]


@contextmanager
def neighbour(url: str, images: Images) -> Iterator[Outcome]:
    """Send one image after the other until the block ends; the outcome is filled in then."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(url, images, theirs), daemon=True)
    process.start()
    found = Outcome()
    try:
        assert ours.poll(60), "the well-behaved client did not start"
        ours.recv()
        yield found
    finally:
        ours.send(None)
        if ours.poll(2 * TIMEOUT_S):
            outcome = ours.recv()
            found.counts, found.latencies_ms = outcome.counts, outcome.latencies_ms
            found.longest_gap_s = outcome.longest_gap_s
        process.join(5)
        process.kill()


def _send(url: str, images: Images, told: Connection) -> None:
    found = Outcome()
    requests = [request(content) for content in images.contents]
    place, last_right = 0, time.monotonic()
    told.send("started")
    while not told.poll():
        try:
            with connected(url) as connection:
                connection.settimeout(TIMEOUT_S)
                while not told.poll():
                    place = (place + 1) % len(requests)
                    outcome, latency_ms, stays_open = ask(connection, requests[place], images.labels[place])
                    found.counts[outcome] += 1
                    if outcome == "right":
                        found.latencies_ms.append(latency_ms)
                        now = time.monotonic()
                        found.longest_gap_s = round(max(found.longest_gap_s, now - last_right), 3)
                        last_right = now
                    time.sleep(PAUSE_S)
                    if not stays_open:
                        break
        except OSError:
            found.counts["refused"] += 1
            time.sleep(0.02)
    found.longest_gap_s = round(max(found.longest_gap_s, time.monotonic() - last_right), 3)
    told.send(found)


def ask(connection: socket.socket, content: bytes, label: str) -> tuple[str, float, bool]:
    """The outcome of one request, its latency in milliseconds, and whether another may be sent."""
    started = time.perf_counter()
    try:
        connection.sendall(content)
        answer = read_answer(connection)
    except (OSError, AssertionError):
        return "lost", 0.0, False
    latency_ms = 1e3 * (time.perf_counter() - started)
    stays_open = answer.headers.get("connection") != "close"
    if answer.status != 200:
        return str(answer.status), latency_ms, stays_open
    # The label stands first in the answer: to parse it all would take longer than to wait for it.
    right = answer.body.startswith(b'{"predictions": [{"label": "%b"' % label.encode())
    return "right" if right else "wrong", latency_ms, stays_open
