"""The line in front of an engine: nobody waits without need, nobody is kept waiting, nobody gets another's answer."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_mnist.errors import FashionMNISTError, Overloaded, RequestTimeout, Unavailable
from fashion_mnist.predictions import Probabilities
from gateway.models.batching import QUANTUM, Batcher
from tests.support.batches import Client, Noted, Slow, run, settle


def test_a_lone_image_goes_at_once() -> None:
    async def test() -> None:
        engine = Slow()
        Client(Batcher(engine, 100)).send(1)
        await settle()
        assert engine.batches == [[1]]

    run(test)


def test_what_comes_while_the_engine_is_busy_goes_together() -> None:
    async def test() -> None:
        engine = Slow()
        client = Client(Batcher(engine, 100))
        client.send(1)
        await settle()
        for name in range(2, 40):
            client.send(name)
        await engine.answer()
        await engine.answer()
        assert engine.batches == [[1], list(range(2, 40))]
        assert client.answers == {name: [name] for name in range(1, 40)}

    run(test)


def test_what_is_waited_for_no_longer_is_not_computed() -> None:
    async def test() -> None:
        engine = Slow()
        client = Client(Batcher(engine, 100))
        client.send(1)
        await settle()
        client.send(2).expires = time.perf_counter() - 1
        client.send(3).expires = time.perf_counter() + 60
        await engine.answer()
        await engine.answer()
        assert engine.batches == [[1], [3]]
        assert isinstance(client.answers.pop(2), RequestTimeout)
        assert client.answers == {1: [1], 3: [3]}

    run(test)


def test_a_batch_is_no_larger_than_the_engine_takes() -> None:
    async def test() -> None:
        engine = Slow(max_batch=8)
        client = Client(Batcher(engine, 100))
        for name in range(20):
            client.send(name)
        for _ in range(3):
            await engine.answer()
        assert list(map(len, engine.batches)) == [8, 8, 4]
        assert len(client.answers) == 20

    run(test)


def test_a_single_image_waits_for_one_round_of_the_others_at_most() -> None:
    """The bound: behind k large requests, the batch in flight and k quanta, whatever number of images they hold."""

    async def test() -> None:
        engine = Slow(max_batch=128)
        client = Client(Batcher(engine, 10**6))
        for name in (1, 2, 3):
            client.send(name, 10_000)
        await settle()
        client.send(4)
        batches_before = -(-3 * QUANTUM // engine.max_batch) + 1
        for _ in range(batches_before + 1):
            await engine.answer()
        assert client.answers[4] == [4]
        assert not {1, 2, 3} & set(client.answers)

    run(test)


def test_a_large_request_is_answered_whole_and_in_order_whatever_comes_back_first() -> None:
    async def test() -> None:
        engine = Slow(max_batch=100, slots=3)
        batcher = Batcher(engine, 1000)
        found: list[Probabilities] = []
        pixels = np.zeros((250, 28, 28), np.uint8)
        pixels[:, 0, 0] = np.arange(250)
        batcher.submit(Noted(pixels, lambda job, error: found.append(job.probabilities)))
        for _ in range(3):
            await engine.answer(last=True)
        assert found[0][:, 0].tolist() == list(range(250))

    run(test)


def test_a_cancelled_request_leaves_the_line() -> None:
    async def test() -> None:
        engine = Slow()
        batcher = Batcher(engine, 100)
        client = Client(batcher)
        client.send(1)
        await settle()
        gone = client.send(2)
        client.send(3)
        gone.cancel()
        await engine.answer()
        await engine.answer()
        assert engine.batches == [[1], [3]]
        assert 2 not in client.answers
        assert batcher.waiting == 0

    run(test)


def test_past_its_limit_the_line_refuses_at_once_and_recovers() -> None:
    async def test() -> None:
        engine = Slow(max_batch=4)
        client = Client(Batcher(engine, 10))
        for name in range(10):
            client.send(name)
        with pytest.raises(Overloaded):
            client.send(10)
        for _ in range(3):
            await engine.answer()
        client.send(11)
        await engine.answer()
        assert set(client.answers) == {*range(10), 11}

    run(test)


@pytest.mark.parametrize("error", [Unavailable("gone"), RuntimeError("what nobody thought of")])
def test_a_batch_that_fails_fails_its_requests_and_no_others(error: Exception) -> None:
    async def test() -> None:
        engine = Slow(max_batch=2)
        batcher = Batcher(engine, 100)
        lost: list[FashionMNISTError] = []
        batcher.on_failure = lost.append
        client = Client(batcher)
        for name in range(4):
            client.send(name)
        await engine.answer(error)
        await engine.answer()
        assert [isinstance(client.answers[name], Unavailable) for name in (0, 1)] == [True, True]
        assert (client.answers[2], client.answers[3]) == ([2], [3])
        assert len(lost) == 1

    run(test)


def test_a_request_that_failed_in_part_is_not_computed_further() -> None:
    async def test() -> None:
        engine = Slow(max_batch=10)
        batcher = Batcher(engine, 1000)
        client = Client(batcher)
        client.send(1, 500)
        await engine.answer(Unavailable("gone"))
        assert isinstance(client.answers[1], Unavailable)
        assert len(engine.batches) == 1
        assert batcher.waiting == 0

    run(test)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), min_size=1, max_size=20), st.integers(1, 200), st.data())
def test_every_request_gets_its_own_answers(
    requests: list[tuple[int, bool]], max_batch: int, data: st.DataObject
) -> None:
    """Any mix of sizes and cancellations, any batch size, any order in which batches come back."""

    async def test() -> None:
        engine = Slow(max_batch, slots=3)
        batcher = Batcher(engine, 10**6)
        client = Client(batcher)
        jobs = {name: client.send(name, count) for name, (count, _) in enumerate(requests)}
        await settle()
        for name, (_, cancelled) in enumerate(requests):
            if cancelled:
                jobs[name].cancel()
        while engine._answers:
            await engine.answer(last=data.draw(st.booleans()))
        for name, (count, cancelled) in enumerate(requests):
            assert client.answers.get(name) == (None if cancelled else [name] * count)
        assert batcher.waiting == 0

    run(test)
