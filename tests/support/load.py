"""Clients that send all the time, and note what comes of each request."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import numpy as np

from tests.support.command import wait_until

TIMEOUT_S = 20.0


@dataclass
class Load:
    """What came of the requests so far, by name:

    right, wrong (a 200 with another label), refused (nobody listened: nothing was sent), lost (sent, and no answer
    came), or the status of an answer that was no 200.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    stopped: bool = False
    retry_after_missing: int = 0

    def wait_for(self, more: int, deadline_s: float = 30.0) -> float:
        """Wait until so many more requests were answered rightly; the seconds it took."""
        target = self.outcomes["right"] + more
        return wait_until(lambda: self.outcomes["right"] >= target, f"{more} more right answers", deadline_s)


@contextmanager
def load(url: str, images: np.ndarray, labels: Sequence[str], clients: int = 8) -> Iterator[Load]:
    """So many clients that send one image after the other, until the block ends."""
    found = Load()

    def send(start: int) -> None:
        place = start
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while not found.stopped:
                place = (place + clients) % len(images)
                outcome = _outcome(client, url, images[place].tobytes(), labels[place], found)
                found.outcomes[outcome] += 1
                if outcome == "refused":
                    time.sleep(0.01)  # nobody is there: no reason to ask a thousand times a second

    with sending(found, send, clients):
        yield found


class Stoppable(Protocol):
    """What clients look at, and end when it is stopped."""

    stopped: bool


@contextmanager
def sending(found: Stoppable, send: Callable[[int], None], clients: int) -> Iterator[None]:
    """So many clients, in a thread each, which is told its number; stopped and waited for in the end."""
    threads = [threading.Thread(target=send, args=(place,), daemon=True) for place in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        found.stopped = True
        for thread in threads:
            thread.join(TIMEOUT_S)


def _outcome(client: httpx.Client, url: str, image: bytes, label: str, found: Load) -> str:
    try:
        response = client.post(url, content=image)
    except httpx.ConnectError:
        return "refused"
    except httpx.TransportError:
        return "lost"
    if response.status_code != 200:
        found.retry_after_missing += "retry-after" not in response.headers
        return str(response.status_code)
    return "right" if response.json()["predictions"][0]["label"] == label else "wrong"
