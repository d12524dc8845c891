"""An image that shows no garment is flagged as unknown by every protocol, and a shirt is not."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.client.http import Client, Prediction
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import unknown_threshold
from fashion_mnist.ood import unknown_scores
from tests.support.command import ServeCommand
from tests.support.grpc_calls import Stub, tensor, values

TIMEOUT_S = 20.0
Flags = tuple[list[bool], list[float]]
"""Of each image: whether it is unknown, and its score."""


@pytest.fixture(scope="module")
def images(dataset: Dataset, model_store: Path) -> np.ndarray:
    """Noise, and the first test image of a shirt that the model knows for one."""
    noise = np.random.default_rng(1).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    shirts = dataset.test.images[dataset.test.labels == CLASSES.index("Shirt")]
    probabilities = open_engine(model_store, "onnx", "cpu").predict(shirts)
    known = np.flatnonzero(probabilities.argmax(axis=1) == CLASSES.index("Shirt"))
    return np.stack([noise, shirts[known[0]]])


@pytest.fixture(scope="module", params=["embedded", "in_front"])
def command(request: pytest.FixtureRequest) -> ServeCommand:
    """The gateway with each engine."""
    found: ServeCommand = request.getfixturevalue(request.param)
    return found


def _native(command: ServeCommand, images: np.ndarray) -> Flags:
    response = httpx.post(command.url, content=images.tobytes(), timeout=TIMEOUT_S)
    return _of(response.json()["predictions"])


def _native_top_k(command: ServeCommand, images: np.ndarray) -> Flags:
    response = httpx.post(f"{command.url}?top_k=2", content=images.tobytes(), timeout=TIMEOUT_S)
    return _of(response.json()["predictions"])


def _client(command: ServeCommand, images: np.ndarray) -> Flags:
    with Client(command.url) as client:
        found = client.classify(*map(encode_image, images))
    good = [prediction for prediction in found if isinstance(prediction, Prediction)]
    return [prediction.unknown for prediction in good], [prediction.unknown_score for prediction in good]


def _v1(command: ServeCommand, images: np.ndarray) -> Flags:
    instances = [{"b64": base64.b64encode(encode_image(image)).decode()} for image in images]
    return _of(_post(command, "/v1/models/fashion_mnist:predict", {"instances": instances})["predictions"])


def _oip_rest(command: ServeCommand, images: np.ndarray, **more: Any) -> Flags:
    said = {"name": "images", "datatype": "UINT8", "shape": [len(images), 28, 28], "data": images.ravel().tolist()}
    answer = _post(command, "/v2/models/fashion_mnist/infer", {"inputs": [said], **more})
    found = {output["name"]: output for output in answer["outputs"]}
    assert (found["unknown"]["datatype"], found["unknown_score"]["datatype"]) == ("BOOL", "FP32")
    return found["unknown"]["data"], found["unknown_score"]["data"]


def _oip_rest_asked(command: ServeCommand, images: np.ndarray) -> Flags:
    return _oip_rest(command, images, outputs=[{"name": "unknown_score"}, {"name": "unknown"}])


def _oip_grpc_raw(command: ServeCommand, images: np.ndarray) -> Flags:
    inputs = [tensor("UINT8", [len(images), 1, 28, 28])]
    return _by_grpc(command, inputs=inputs, raw_input_contents=[images.tobytes()])


def _oip_grpc_typed(command: ServeCommand, images: np.ndarray) -> Flags:
    inputs = [tensor("UINT8", [len(images), 28, 28], uint_contents=images.ravel().tolist())]
    return _by_grpc(command, inputs=inputs, outputs=[{"name": "unknown"}, {"name": "unknown_score"}])


def _post(command: ServeCommand, path: str, document: Any) -> Any:
    base = command.url.removesuffix("/predictions/fashion_mnist")
    response = httpx.post(base + path, json=document, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    return response.json()


def _by_grpc(command: ServeCommand, **request: Any) -> Flags:
    stub = Stub(command)
    with stub.channel:
        found = values(stub.infer(**request))
    return found["unknown"], found["unknown_score"]


def _of(predictions: list[dict[str, Any]]) -> Flags:
    return (
        [prediction["unknown"] for prediction in predictions],
        [prediction["unknown_score"] for prediction in predictions],
    )


WAYS: dict[str, Callable[[ServeCommand, np.ndarray], Flags]] = {
    "native": _native,
    "native, the likeliest classes": _native_top_k,
    "the client": _client,
    "v1": _v1,
    "OIP, REST": _oip_rest,
    "OIP, REST, asked for": _oip_rest_asked,
    "OIP, gRPC, raw": _oip_grpc_raw,
    "OIP, gRPC, typed": _oip_grpc_typed,
}


@pytest.mark.parametrize("way", WAYS)
def test_noise_is_flagged_and_a_shirt_is_not(
    command: ServeCommand, images: np.ndarray, model_store: Path, way: str
) -> None:
    flags, scores = WAYS[way](command, images)
    assert flags == [True, False]
    assert scores[1] < unknown_threshold(model_store) < scores[0]
    expected = unknown_scores(open_engine(model_store, "onnx", "cpu").predict(images))
    np.testing.assert_allclose(scores, expected, atol=2e-4)
