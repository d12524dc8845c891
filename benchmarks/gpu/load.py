"""A closed loop of requests over HTTP, without wrk, which a machine with a GPU may lack; one thread sends."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.load import RunFailed
from benchmarks.open_loop.http_connection import HTTPConnection
from benchmarks.open_loop.sender import Answer, Sender
from loadtest.requests import Request

LAST_ANSWERS_S: Final = 15.0


@dataclass(frozen=True)
class Load:
    """What came of it."""

    images_per_s: float
    p50_ms: float
    p99_ms: float


def closed_loop(url: str, requests: Sequence[Request], *, connections: int, seconds: float) -> Load:
    """Send requests in turn over so many connections for so long. Raises RunFailed on a wrong label, or no answer."""
    loop = _Loop(requests, time.perf_counter() + seconds)
    started = time.perf_counter()
    with Sender(url, [request.sent for request in requests], loop.on_answers, HTTPConnection, connections) as sender:
        loop.begin(sender, connections)
        if not loop.ended.wait(seconds + LAST_ANSWERS_S):
            raise RunFailed(f"{url}: requests without an answer {LAST_ANSWERS_S:.0f} s after the load's end")
    if loop.failure:
        raise RunFailed(f"{url}: {loop.failure}")
    images = sum(len(requests[place].labels) for place in loop.answered)
    p50, p99 = np.percentile(loop.seconds, [50, 99]) * 1e3
    return Load(images / (loop.last - started), round(float(p50), 3), round(float(p99), 3))


class _Loop:
    """Sends a request for each answer. All but `begin` happens in the sender's thread."""

    def __init__(self, requests: Sequence[Request], until: float) -> None:
        self._requests, self._until = requests, until
        self._sent = self._open = 0
        self._checked: set[int] = set()
        self.answered: list[int] = []
        self.seconds: list[float] = []
        self.failure = ""
        self.last = 0.0
        self.ended = threading.Event()

    def begin(self, sender: Sender, connections: int) -> None:
        """Send the first ones."""
        self._sender = sender
        self._open = self._sent = connections
        sender.send([(number, number % len(self._requests)) for number in range(connections)])

    def on_answers(self, answers: list[Answer]) -> None:
        self.last = time.perf_counter()
        for answer in answers:
            self._check(answer)
            self.answered.append(answer.request)
            self.seconds.append(answer.seconds)
        if self.failure or self.last >= self._until:
            self._open -= len(answers)
            if not self._open:
                self.ended.set()
            return
        numbers = range(self._sent, self._sent + len(answers))
        self._sent += len(answers)
        self._sender.send([(number, number % len(self._requests)) for number in numbers])

    def _check(self, answer: Answer) -> None:
        """Compare the labels of a request's first answer; of the others the status alone, which costs nothing."""
        if answer.status != 200:
            self.failure = f"status {answer.status}: {answer.body[:200]!r}"
        elif answer.request not in self._checked:
            self._checked.add(answer.request)
            request = self._requests[answer.request]
            if request.kind.read(answer.body) != request.labels:
                self.failure = f"{request.kind.name}: labels are not the model's"
