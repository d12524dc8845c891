"""The gateway's way to the real TorchServe: pixels in shared memory, or in the body where that cannot be."""

import asyncio
import os
import resource
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset
from fashion_mnist.errors import Unavailable
from fashion_mnist.handler_interface.shared_pixels import Writer
from fashion_mnist.predictions import Probabilities
from fashion_mnist.settings import Settings
from gateway.models.engines.torchserve import TorchServeEngine
from serving import processes
from tests.support.torchserve import RunningServer


def ask(server: RunningServer, dataset: Dataset, *counts: int, shared: bool = True) -> list[Probabilities]:
    """What one engine is told of the first images, for each count in turn."""

    async def asked() -> list[Probabilities]:
        engine = TorchServeEngine(Settings(), urlsplit(server.url).port or 0, shared=shared)
        try:
            return [await engine.predict(dataset.test.images[:count]) for count in counts]
        finally:
            await engine.close()

    return asyncio.run(asked())


def test_both_ways_give_the_same(torchserve: RunningServer, dataset: Dataset) -> None:
    counts = (1, 256, 3)
    for ours, other in zip(
        ask(torchserve, dataset, *counts), ask(torchserve, dataset, *counts, shared=False), strict=True
    ):
        np.testing.assert_array_equal(ours, other)


def test_batches_at_once_have_a_memory_each(torchserve: RunningServer, dataset: Dataset) -> None:
    images = dataset.test.images[:512].reshape(8, 64, 1, 28, 28)

    async def asked() -> list[Probabilities]:
        engine = TorchServeEngine(Settings(), urlsplit(torchserve.url).port or 0)
        found = await asyncio.gather(*(engine.predict(part) for part in images))
        await engine.close()
        return found

    (expected,) = ask(torchserve, dataset, 256, shared=False)
    found = np.concatenate(asyncio.run(asked()))
    np.testing.assert_allclose(found[:256], expected, atol=1e-6)


def test_a_batch_that_is_given_up_takes_its_memory_along(torchserve: RunningServer, dataset: Dataset) -> None:
    (expected,) = ask(torchserve, dataset, 3, shared=False)
    (worker,) = [each for each in processes.tree(torchserve.pid) if "model_service_worker" in " ".join(each.cmdline())]

    async def asked() -> tuple[int, Probabilities]:
        engine = TorchServeEngine(Settings(engine_timeout_s=1), urlsplit(torchserve.url).port or 0)
        worker.suspend()
        try:
            with pytest.raises(Unavailable, match="did not answer within 1 s"):
                await engine.predict(dataset.test.images[3:6])
            await asyncio.sleep(0)  # the connection's end is told in the next turn
            left = len(memories())
        finally:
            worker.resume()
        # The worker reads the first batch now: it must not find, nor answer with, what belongs to the second.
        found = await engine.predict(dataset.test.images[:3])
        await engine.close()
        return left, found

    before = len(memories())
    left, found = asyncio.run(asked())
    assert left <= before
    np.testing.assert_array_equal(found, expected)


def memories() -> list[str]:
    """The memory to share that this process has open."""
    return [link for fd in Path("/proc/self/fd").iterdir() if "memfd:pixels" in (link := _link(fd))]


def _link(fd: Path) -> str:
    try:
        return os.readlink(fd)
    except FileNotFoundError:  # the listing's own
        return ""


def test_where_memory_cannot_be_read_pixels_are_sent(
    torchserve: RunningServer, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = ask(torchserve, dataset, 5, 7, shared=False)
    write = Writer.write
    # A process that there cannot be: numbers end at 4,194,304.
    monkeypatch.setattr(Writer, "write", lambda *args: b"4194305 " + write(*args).split(b" ", 1)[1])
    for ours, other in zip(ask(torchserve, dataset, 5, 7), expected, strict=True):
        np.testing.assert_array_equal(ours, other)
    assert len([line for line in caplog.messages if "sent as bytes" in line]) == 1, "it is tried once, and said once"


def test_batches_in_flight_together_are_all_sent_as_bytes(
    torchserve: RunningServer, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = ask(torchserve, dataset, 7, shared=False)
    write = Writer.write
    monkeypatch.setattr(Writer, "write", lambda *args: b"4194305 " + write(*args).split(b" ", 1)[1])

    async def asked() -> list[Probabilities]:
        engine = TorchServeEngine(Settings(), urlsplit(torchserve.url).port or 0)
        found = await asyncio.gather(*(engine.predict(dataset.test.images[:7]) for _ in range(3)))
        await engine.close()
        return found

    for found in asyncio.run(asked()):
        np.testing.assert_array_equal(found, expected)


def test_where_there_is_no_memory_to_share_pixels_are_sent(
    torchserve: RunningServer, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    expected = ask(torchserve, dataset, 5, 7, shared=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # holds for memory that is a file too
    try:
        found = ask(torchserve, dataset, 5, 7)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for ours, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, other)
    assert len([line for line in caplog.messages if "sent as bytes" in line]) == 1, "it is tried once, and said once"
