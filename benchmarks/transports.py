"""What stands between the gateway and TorchServe: HTTP over TCP or a Unix socket, gRPC, or memory that both have."""

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import uvloop
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.load import RunFailed
from benchmarks.report import markdown_table
from export import archive
from fashion_mnist import dataset
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import Unavailable
from fashion_mnist.model_store import model_store_path
from fashion_mnist.predictions import Probabilities
from fashion_mnist.settings import Settings
from gateway.engines.torchserve import TorchServeEngine
from serving import config
from serving.torchserve import TorchServe

BATCHES: Final = (1, 32, 256)
REPEATS: Final = 7
START_S: Final = 60.0

Predict = Callable[[Pixels], Awaitable[Probabilities]]


def run(*, quick: bool = False) -> str:
    """Measure and print a Markdown table; returns it. Raises RunFailed where an answer is wrong."""
    table = uvloop.run(_run(calls=5 if quick else 300))
    Console(soft_wrap=True, highlight=False).print(table)
    return table


async def _run(calls: int) -> str:
    settings = Settings.from_environment(port=0, device="cpu")
    store = model_store_path(settings)
    images = dataset.load(settings.data).test.images[: max(BATCHES)]
    expected = open_engine(store, "onnx", "cpu").predict(images).argmax(axis=1)
    measured: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="fm-") as name, contextlib.ExitStack() as stack:
        tcp = stack.enter_context(_started(settings, store, Path(name) / "tcp", None))
        socket = Path(name) / "ts.sock"
        stack.enter_context(_started(settings, store, Path(name) / "unix", socket))
        async with grpc.aio.insecure_channel(f"{config.LOOPBACK}:{tcp.ports.grpc_inference}") as channel:
            transports: dict[str, Predict] = {
                "shared memory, told of over TCP": TorchServeEngine(settings, tcp.ports.inference).predict,
                "HTTP over TCP": TorchServeEngine(settings, tcp.ports.inference, shared=False).predict,
                "HTTP over a Unix socket": TorchServeEngine(settings, str(socket), shared=False).predict,
                "gRPC": _grpc(channel),
            }
            for name_, predict in transports.items():
                await _until_right(name_, predict, images, expected)
            for _ in range(REPEATS):
                for batch in BATCHES:
                    for name_, predict in transports.items():
                        taken = []
                        for _ in range(calls):
                            started = time.perf_counter()
                            await predict(images[:batch])
                            taken.append(time.perf_counter() - started)
                        measured.setdefault((name_, batch), []).append(statistics.median(taken))
    heading = ["p50 of one call, ms", *(f"{batch} images" for batch in BATCHES)]
    rows = [
        [name_, *(f"{1e3 * statistics.median(measured[name_, batch]):.2f}" for batch in BATCHES)]
        for name_ in transports
    ]
    return "\n".join(markdown_table(heading, rows))


@contextlib.contextmanager
def _started(settings: Settings, store: Path, folder: Path, socket: Path | None) -> Iterator[TorchServe]:
    """TorchServe as we run it, or the same at a Unix socket."""
    with TorchServe(settings, store, folder) as server:
        server.prepare(lambda path: archive.build(settings, store, path))
        if socket:
            properties = server.folder.properties
            lines = properties.read_text().splitlines()
            lines = [f"inference_address=unix:{socket}" if "inference_address" in line[:17] else line for line in lines]
            properties.write_text("\n".join(lines) + "\n")
        server.start()
        yield server


def _grpc(channel: grpc.aio.Channel) -> Predict:
    """TorchServe's `Predictions` call; the two messages are short enough to be written by hand.

    https://github.com/pytorch/serve/blob/v0.12.0/frontend/server/src/main/resources/proto/inference.proto
    """
    call = channel.unary_unary("/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions")

    async def predict(images: Pixels) -> Probabilities:
        entry = _field(1, b"data") + _field(2, images.tobytes())
        answer: bytes = await call(_field(1, b"fashion_mnist") + _field(3, entry), timeout=10)
        # There is no header by which to ask for octets.
        found = json.loads(answer[answer.index(b"{") :])["predictions"]
        return np.array([list(each["probabilities"].values()) for each in found], np.float32)

    return predict


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, size = b"", len(value)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


async def _until_right(name: str, predict: Predict, images: Pixels, expected: NDArray[np.int64]) -> None:
    """Wait until the server answers. Raises RunFailed where it does not, or wrongly."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            found = await predict(images)
            break
        except (Unavailable, grpc.aio.AioRpcError) as error:
            if time.monotonic() > deadline:
                raise RunFailed(f"{name}: no answer within {START_S:g} s: {error}") from None
            await asyncio.sleep(0.1)
    if not np.array_equal(found.argmax(axis=1), expected):
        raise RunFailed(f"{name}: wrong labels")
