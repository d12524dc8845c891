"""Another server behind the gateway that answers with numbers that are no probabilities."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from fashion_mnist.errors import Unavailable
from fashion_mnist.settings import Settings
from gateway.engines.oip import INFER, OipEngine
from gateway.protocols import inference_pb2 as pb

SURE = [1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
IMAGES = np.zeros((2, 28, 28), np.uint8)


@contextmanager
def server(rows: list[list[float]]) -> Iterator[str]:
    """Answers every request with these numbers; its address."""
    response = pb.ModelInferResponse(outputs=[{"name": "probabilities", "datatype": "FP32", "shape": [len(rows), 10]}])
    response.raw_output_contents.append(np.array(rows, "<f4").tobytes())
    service, _, method = INFER[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: response.SerializeToString())
    running = grpc.server(ThreadPoolExecutor(1))
    running.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait(10)


def predict(rows: list[list[float]]) -> np.ndarray:
    async def ask(address: str) -> np.ndarray:
        engine = OipEngine(Settings(oip_address=address))
        try:
            return await engine.predict(IMAGES)
        finally:
            await engine.close()

    with server(rows) as address:
        return asyncio.run(ask(address))


def test_probabilities_are_taken() -> None:
    np.testing.assert_array_equal(predict([SURE, [0.1] * 10]), np.array([SURE, [0.1] * 10], np.float32))


@pytest.mark.parametrize(
    "bad", [[float("nan")] * 10, [0.0] * 10, [1.5, -0.5, *[0.0] * 8], [2.0, *[0.0] * 9], [float("inf")] * 10]
)
def test_other_numbers_are_not(bad: list[float]) -> None:
    with pytest.raises(Unavailable, match="not 1 together"):
        predict([SURE, bad])
    with pytest.raises(Unavailable, match="gave no probabilities"):
        predict([SURE])
