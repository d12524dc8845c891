"""Clients of a batcher, and an engine that answers when it is told to."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.predictions import Probabilities
from gateway.models.batching import Batcher
from gateway.types.job import Job


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
