"""The oip engine and servers of others that are not as we would have them."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from fashion_mnist.errors import Unavailable
from fashion_mnist.settings import Settings
from gateway.models.engines.oip import INFER, OipEngine
from gateway.protocols import inference_pb2 as pb

Answer = Callable[[Any, grpc.ServicerContext], Any]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server that answers by a function; its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(
        answer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    service, name = INFER[1:].split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


def response(values: np.ndarray, shape: list[int]) -> Any:
    output = {"name": "probabilities", "datatype": "FP32", "shape": shape}
    return pb.ModelInferResponse(outputs=[output], raw_output_contents=[values.astype("<f4").tobytes()])


def predict(address: str, *sizes: int) -> tuple[list[np.ndarray], int]:
    """The answers to batches of these sizes, whose images are numbered, and the largest batch from then on."""

    async def run() -> tuple[list[np.ndarray], int]:
        engine = OipEngine(Settings(oip_address=address))
        try:
            found = []
            for size in sizes:
                images = np.zeros((size, 28, 28), np.uint8)
                images[:, 0, 0] = np.arange(size)
                found.append(await engine.predict(images))
            return found, engine.max_batch
        finally:
            await engine.close()

    return asyncio.run(run())


def test_a_server_that_takes_less_gets_less() -> None:
    sizes = []

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        count = request.inputs[0].shape[0]
        sizes.append(count)
        if count > 64:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "batch-size must be <= 64")
        first = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(count, -1)[:, :1]
        share = first / 255
        return response(np.concatenate([share, 1 - share, np.zeros((count, 8))], axis=1), [count, 10])

    with serving(answer) as address:
        (many, one), most = predict(address, 200, 1)
    assert (255 * many[:, 0]).round().tolist() == list(range(200))
    assert len(one) == 1
    assert most <= 64
    assert 1 in sizes


def test_what_one_image_is_refused_for_is_said() -> None:
    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected inference input")

    with serving(answer) as address, pytest.raises(Unavailable, match="unexpected inference input"):
        predict(address, 4)


@pytest.mark.parametrize(
    ("values", "shape"),
    [(np.zeros((10, 4)), [10, 4]), (np.zeros((4, 10)), [40]), (np.zeros((4, 9)), [4, 10])],
    ids=["turned", "flat", "short"],
)
def test_another_shape_is_no_answer(values: np.ndarray, shape: list[int]) -> None:
    with serving(lambda *_: response(values, shape)) as address, pytest.raises(Unavailable, match="FP32"):
        predict(address, 4)


SURE = [1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "bad", [[float("nan")] * 10, [0.0] * 10, [1.5, -0.5, *[0.0] * 8], [2.0, *[0.0] * 9], [float("inf")] * 10]
)
def test_what_is_no_probability_is_no_answer(bad: list[float]) -> None:
    with (
        serving(lambda *_: response(np.array([SURE, bad]), [2, 10])) as address,
        pytest.raises(Unavailable, match="sum other than 1"),
    ):
        predict(address, 2)


def test_a_server_is_asked_past_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    right = np.full((1, 10), 0.1, np.float32)
    with serving(lambda request, context: response(right, [1, 10])) as address:
        (found,), _ = predict(address, 1)
    assert np.array_equal(found, right)
