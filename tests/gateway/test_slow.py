"""Work beside the event loop: the cheapest first, so much of it at once, and none for which nobody waits."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fashion_mnist.decoding.limits import TooSlow
from fashion_mnist.errors import Overloaded
from gateway import slow_work as slow
from gateway.slow_work import MAX_JOBS, MODEST_COST, SlowWork

TIMEOUT_S = 20


class Blocked:
    """Work that a thread begins, and does not end before it is told to."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def __call__(self, allowance: float) -> str:
        self.began.set()
        assert self.may_end.wait(TIMEOUT_S)
        return "blocked"


def submit(
    work: SlowWork, cost: float, function: Callable[[float], Any], cancelled: bool = False
) -> "asyncio.Future[Any]":
    future = asyncio.get_running_loop().create_future()
    work.submit(cost, function, future.set_result, lambda: cancelled)
    return future


async def both_blocked(work: SlowWork) -> tuple[Blocked, Blocked]:
    """Keep both threads busy: a dear job, and a modest one."""
    dear, modest = Blocked(), Blocked()
    submit(work, MODEST_COST + 1, dear)
    await asyncio.to_thread(dear.began.wait, TIMEOUT_S)
    submit(work, 1, modest)
    await asyncio.to_thread(modest.began.wait, TIMEOUT_S)
    return dear, modest


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_S))


def test_a_modest_job_does_not_wait_for_a_dear_one() -> None:
    async def scenario() -> None:
        work, dear = SlowWork(1e9), Blocked()
        submit(work, MODEST_COST + 1, dear)
        await asyncio.to_thread(dear.began.wait, TIMEOUT_S)
        assert await submit(work, 1, lambda allowance: "done") == "done"
        dear.may_end.set()

    run(scenario)


def test_the_cheapest_is_done_first() -> None:
    async def scenario() -> None:
        work = SlowWork(1e9)
        dear, modest = await both_blocked(work)
        order: list[int] = []
        futures = [submit(work, cost, lambda _, cost=cost: order.append(cost)) for cost in (5, 3, 4, 2)]  # type: ignore[misc]
        modest.may_end.set()
        await asyncio.gather(*futures)
        assert order == [2, 3, 4, 5]
        dear.may_end.set()

    run(scenario)


def test_a_job_that_costs_more_than_it_seemed_waits_again_as_a_dear_one() -> None:
    async def scenario() -> None:
        work, allowances = SlowWork(1e9), list[float]()

        def costly(allowance: float) -> str:
            allowances.append(allowance)
            if allowance < 10 * MODEST_COST:
                raise TooSlow(10 * MODEST_COST)
            return "done"

        assert await submit(work, 1, costly) == "done"
        assert allowances == [MODEST_COST, float("inf")]

    run(scenario)


def test_past_what_may_wait_jobs_are_refused() -> None:
    async def scenario() -> None:
        work = SlowWork(100 * MODEST_COST)
        dear, modest = await both_blocked(work)
        waiting = [submit(work, 60 * MODEST_COST, lambda allowance: "done")]
        with pytest.raises(Overloaded):
            submit(work, 60 * MODEST_COST, lambda allowance: "done")
        waiting += [submit(work, 1, lambda allowance: "done") for _ in range(MAX_JOBS - 1)]
        with pytest.raises(Overloaded):
            submit(work, 1, lambda allowance: "done")
        dear.may_end.set()
        modest.may_end.set()
        assert set(await asyncio.gather(*waiting)) == {"done"}

    run(scenario)


def test_what_nobody_waits_for_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        work, done = SlowWork(1e9), list[str]()
        assert isinstance(await submit(work, 1, lambda allowance: done.append("gone"), cancelled=True), Overloaded)
        monkeypatch.setattr(slow, "MAX_WAIT_S", -1)
        assert isinstance(await submit(work, 1, lambda allowance: done.append("late")), Overloaded)
        assert not done

    run(scenario)


def test_a_failure_is_handed_over() -> None:
    async def scenario() -> None:
        def fails(allowance: float) -> None:
            raise ZeroDivisionError

        work = SlowWork(1e9)
        assert isinstance(await submit(work, 1, fails), ZeroDivisionError)
        assert await submit(work, 1, lambda allowance: "still here") == "still here"

    run(scenario)
