"""Explanations give way to predictions: few wait, and under load their thread rests."""

import asyncio
import threading
import time
from typing import Any

import pytest

from fashion_mnist.errors import Overloaded
from gateway.models.explanations import BUSY_PER_S, MAX_REST_S, MAX_WAITING, RESTS, Explanations, Pace


def rested(predictions: int, seconds: float, took_s: float = 0.001) -> float:
    """The rest after an explanation before which there were so many predictions within so many seconds."""
    counted = iter((0, predictions))
    pace = Pace(lambda: next(counted))
    return pace.rest_s(took_s, pace._before[0] + seconds)


@pytest.mark.parametrize(
    ("predictions", "seconds", "rest_s"),
    [
        (0, 1.0, 0.0),
        (1, 0.5, 0.0),  # the page's own
        (BUSY_PER_S * 10, 1.0, RESTS * 0.001),
        (BUSY_PER_S * 2, 2.0, RESTS * 0.001),
        (-5, 1.0, 0.0),  # a version was unloaded
    ],
)
def test_it_rests_while_there_are_many_predictions(predictions: int, seconds: float, rest_s: float) -> None:
    assert rested(predictions, seconds) == pytest.approx(rest_s)


def test_a_rest_has_its_end() -> None:
    assert rested(10_000, 1.0, took_s=60.0) == MAX_REST_S


def test_places_are_few_and_come_back() -> None:
    explanations = Explanations(lambda: 0)
    for _ in range(MAX_WAITING):
        explanations.enter()
    with pytest.raises(Overloaded):
        explanations.enter()
    explanations.leave()
    explanations.enter()
    explanations.close()


def test_results_and_errors_come_back_on_the_event_loop_and_nothing_is_done_for_those_who_left() -> None:
    async def test() -> list[Any]:
        explanations = Explanations(lambda: 0)
        found: list[Any] = []
        done = asyncio.Event()

        def then(result: Any) -> None:
            found.append((result, threading.current_thread() is threading.main_thread()))
            if len(found) == 3:
                done.set()

        error = ValueError("no")

        def fail() -> None:
            raise error

        explanations.submit(lambda: threading.current_thread().name, then, lambda: False)
        explanations.submit(fail, then, lambda: False)
        explanations.submit(fail, then, lambda: True)
        await asyncio.wait_for(done.wait(), 10)
        explanations.close()
        assert found[0][0].startswith("explain")
        assert [result for result, _ in found[1:]] == [error, None]
        return found

    assert all(on_loop for _, on_loop in asyncio.run(test()))


def test_it_ends_at_once_though_it_rests() -> None:
    counted = iter(range(0, 10**9, 10**6))

    def spin() -> None:
        began = time.thread_time()
        while time.thread_time() - began < 0.01:
            pass

    async def test() -> None:
        explanations = Explanations(lambda: next(counted))
        explained = asyncio.Event()
        explanations.submit(spin, lambda result: explained.set(), lambda: False)
        await asyncio.wait_for(explained.wait(), 10)
        explanations.close()
        await asyncio.to_thread(explanations._thread.shutdown, wait=True)

    asyncio.run(asyncio.wait_for(test(), 10))
