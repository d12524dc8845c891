"""The line in front of an engine: nobody waits without need, nobody is kept waiting, nobody gets another's answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError, Overloaded, RequestTimeout, Unavailable
from fashion_mnist.predictions import Probabilities
from gateway.batching import QUANTUM, Batcher, Job


class Slow:
    """An engine that answers when it is told to; the answer to an image is its first pixel."""

    def __init__(self, max_batch: int = 128, slots: int = 1) -> None:
        self.max_batch = max_batch
        self._slots = slots
        self.batches: list[list[int]] = []
        self._answers: list[asyncio.Future[None]] = []

    def wants(self, in_flight: int, waiting: int) -> bool:
        return in_flight < self._slots

    async def predict(self, images: Pixels) -> Probabilities:
        self.batches.append([int(image[0, 0]) for image in images])
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        await answer
        return np.repeat(images[:, :1, 0].astype(np.float32), 10, axis=1)

    async def close(self) -> None:
        pass

    async def answer(self, error: Exception | None = None, *, last: bool = False) -> None:
        """Let the batch that was sent first, or last, be answered or fail."""
        await settle()
        answer = self._answers.pop(-1 if last else 0)
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(None)
        await settle()


class Noted(Job):
    """A request that calls when it is done."""

    def __init__(self, pixels: Pixels, on_done: Callable[[Job, FashionMNISTError | None], None]) -> None:
        super().__init__(pixels)
        self._on_done = on_done

    def done(self, error: FashionMNISTError | None) -> None:
        self._on_done(self, error)


class Client:
    """Requests and what came of them."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.answers: dict[int, list[int] | FashionMNISTError] = {}

    def send(self, name: int, count: int = 1) -> Job:
        def done(job: Job, error: FashionMNISTError | None) -> None:
            self.answers[name] = error or [int(value) for value in job.probabilities[:, 0]]

        job = Noted(np.full((count, 28, 28), name, np.uint8), done)
        self._batcher.submit(job)
        return job


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


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
