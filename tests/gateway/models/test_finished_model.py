"""A finished model of colour images, served: each protocol and engine answers as the model does."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.finished.store import import_model
from export.finished.wrapping import Wrapping
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.task import Geometry, HealthCheck, Task
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.grpc_calls import Stub, tensor, values

TIMEOUT_S = 20.0
CLASSES = ("red", "green", "blue", "cyan", "yellow", "black", "white")
TASK = Task(
    name="colors",
    title="colors",
    classes=CLASSES,
    geometry=Geometry(3, 20, 24),
    health_check=HealthCheck("", "red"),
    resize=24,
)
IMAGES = np.random.default_rng(1).integers(0, 256, (32, *TASK.geometry), dtype=np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    weights = np.random.default_rng(2).normal(0, 0.05, (TASK.image_bytes, len(CLASSES))).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *TASK.geometry])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)])
    graph = helper.make_graph(nodes, "linear", [image], [logits], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    wrapping = Wrapping(geometry=TASK.geometry, classes=len(CLASSES), mean=(0.4,) * 3, std=(0.2,) * 3)
    import_model(folder / "model.onnx", folder / "store", TASK, wrapping, version="3.0")
    return folder / "store"


@pytest.fixture(scope="module")
def expected(store: Path) -> np.ndarray:
    return open_engine(store, "onnx", "cpu").predict(IMAGES)


@pytest.fixture(scope="module", params=["embedded", "torchserve"])
def server(
    request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeCommand]:
    folder = tmp_path_factory.mktemp(request.param)
    with serve_command(folder, "--engine", request.param, FASHION_MNIST_MODEL_STORE=str(store)) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


def labels(predictions: list[dict[str, object]]) -> list[object]:
    return [prediction["label"] for prediction in predictions]


def test_its_name_and_version_are_in_the_address_and_the_answer(server: ServeCommand, expected: np.ndarray) -> None:
    assert server.url.endswith("/predictions/colors")
    answer = httpx.post(server.url, content=IMAGES.tobytes(), timeout=TIMEOUT_S).json()
    assert answer["model_version"] == "3.0"
    assert labels(answer["predictions"]) == [CLASSES[index] for index in expected.argmax(axis=1)]
    found = [list(prediction["probabilities"].values()) for prediction in answer["predictions"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_image_files_are_read_in_colour(server: ServeCommand, expected: np.ndarray) -> None:
    files = [("image", encode_image(image)) for image in IMAGES]
    answer = httpx.post(server.url, files=files, timeout=TIMEOUT_S).json()
    assert labels(answer["predictions"]) == [CLASSES[index] for index in expected.argmax(axis=1)]
    larger = np.kron(IMAGES[0], np.ones((1, 3, 3), np.uint8))
    answer = httpx.post(server.url, content=encode_image(larger), timeout=TIMEOUT_S).json()
    assert answer["predictions"][0]["adjusted"] == ["resized from 72 x 60"]


def test_other_protocols_answer_the_same(server: ServeCommand, expected: np.ndarray) -> None:
    base = server.url.removesuffix("/predictions/colors")
    index = int(expected[0].argmax())
    shape = [1, *TASK.geometry]
    oip = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": shape, "data": IMAGES[0].ravel().tolist()}]}
    answer = httpx.post(f"{base}/v2/models/colors/infer", json=oip, timeout=TIMEOUT_S).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs["label"] == [CLASSES[index]]
    v1 = {"instances": [IMAGES[0].tolist()]}
    answer = httpx.post(f"{base}/v1/models/colors:predict", json=v1, timeout=TIMEOUT_S).json()
    assert json.dumps(answer).count(CLASSES[index]) >= 1
    stub = Stub(server)
    with stub.channel:
        request = {"inputs": [tensor("UINT8", shape)], "raw_input_contents": [IMAGES[0].tobytes()]}
        assert values(stub.infer(model_name="colors", **request))["label"] == [CLASSES[index].encode()]


def test_an_image_of_another_task_is_refused_with_what_to_send(server: ServeCommand) -> None:
    answer = httpx.post(server.url, content=bytes(784), timeout=TIMEOUT_S)
    assert answer.status_code == 400
    assert "1,440" in answer.json()["error"]["message"] or "1440" in answer.json()["error"]["message"]
