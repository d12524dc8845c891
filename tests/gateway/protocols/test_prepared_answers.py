"""Photographs are prepared alike by every protocol: one picture gives the same pixels by every way in."""

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.client.http import Client, Prediction
from fashion_mnist.data.splits import Dataset
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import MAX_PREPARED, Limits
from fashion_mnist.encoding import encode_picture
from fashion_mnist.engines import Engine, open_engine
from fashion_mnist.preparation import MODES, NOTHING_FOUND, Mode
from fashion_mnist.settings import Settings, table
from fashion_mnist.task import FASHION_MNIST
from tests.support.command import COMMAND, ServeCommand
from tests.support.grpc_calls import Stub, values
from tests.support.torchserve import RunningServer

TIMEOUT_S = 20.0
PATH = "/predictions/fashion_mnist"


@pytest.fixture(scope="module")
def engine(model_store: Path) -> Engine:
    return open_engine(model_store, "onnx", "cpu")


@pytest.fixture(scope="module")
def photograph(dataset: Dataset) -> bytes:
    """A garment that is darker than its ground, off centre and of another size than the network's."""
    garment = dataset.test.images[1, 0].repeat(8, axis=0).repeat(8, axis=1)
    picture = np.full((400, 560, 3), (236, 240, 229), np.uint8)
    place = picture[100:324, 60:284]
    place[:] = place * (1 - garment[:, :, None] / 255 * 0.8)
    return encode_picture(picture, "JPEG", quality=90)


@pytest.fixture(scope="module")
def empty() -> bytes:
    """A picture of nothing."""
    return encode_picture(np.full((300, 300, 3), 200, np.uint8), "JPEG")


def expected(engine: Engine, content: bytes, mode: Mode) -> np.ndarray:
    decoded = decode(content, "", Limits.from_settings(Settings()), FASHION_MNIST, prepare=mode)
    probabilities: np.ndarray = engine.predict(decoded.pixels)[0]
    return probabilities


def _probabilities(prediction: dict[str, Any]) -> np.ndarray:
    return np.array([prediction["probabilities"][name] for name in CLASSES])


def _native(url: str, **options: Any) -> np.ndarray:
    response = httpx.post(url, timeout=TIMEOUT_S, **options)
    assert response.status_code == 200, response.text
    return _probabilities(response.json()["predictions"][0])


def _query(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    return _native(f"{command.url}?prepare={mode}", content=content)


def _header(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    return _native(command.url, content=content, headers={"x-prepare": mode})


def _form(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    return _native(command.url, files={"image": content}, data={"prepare": mode})


def _json(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    return _native(f"{command.url}?prepare={mode}", json=base64.b64encode(content).decode())


def _v1(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    url = command.url.replace(PATH, f"/v1/models/fashion_mnist:predict?prepare={mode}")
    document = {"instances": [{"b64": base64.b64encode(content).decode()}]}
    return np.array(httpx.post(url, json=document, timeout=TIMEOUT_S).json()["predictions"][0]["probabilities"])


def _oip_rest(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    url = command.url.replace(PATH, "/v2/models/fashion_mnist/infer")
    image = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}
    document = {"inputs": [image], "parameters": {"prepare": mode}, "outputs": [{"name": "probabilities"}]}
    return np.array(httpx.post(url, json=document, timeout=TIMEOUT_S).json()["outputs"][0]["data"])


def _oip_grpc(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    inputs = [{"name": "images", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [content]}}]
    stub = Stub(command)
    with stub.channel:
        found = values(stub.infer(inputs=inputs, parameters={"prepare": {"string_param": mode}}))
    return np.array(found["probabilities"])


def _client(command: ServeCommand, content: bytes, mode: str) -> np.ndarray:
    with Client(command.url) as client:
        (prediction,) = client.classify(content, prepare=mode)
    assert isinstance(prediction, Prediction)
    return np.array([prediction.probabilities[name] for name in CLASSES])


WAYS: dict[str, Callable[[ServeCommand, bytes, str], np.ndarray]] = {
    "query": _query,
    "header": _header,
    "form": _form,
    "JSON": _json,
    "v1": _v1,
    "OIP, REST": _oip_rest,
    "OIP, gRPC": _oip_grpc,
    "client": _client,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine_of", ["embedded", "in_front"])
def test_photograph_gives_the_same_answer_by_every_protocol(
    request: pytest.FixtureRequest, engine: Engine, photograph: bytes, engine_of: str, way: str, mode: Mode
) -> None:
    found = WAYS[way](request.getfixturevalue(engine_of), photograph, mode)
    np.testing.assert_allclose(found, expected(engine, photograph, mode), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_handler_prepares_as_the_gateway_does(
    torchserve: RunningServer, engine: Engine, photograph: bytes, mode: Mode
) -> None:
    found = _native(torchserve.url, content=photograph, headers={"x-prepare": mode})
    np.testing.assert_allclose(found, expected(engine, photograph, mode), atol=1e-5)
    in_form = _native(torchserve.url, files={"image": photograph}, data={"prepare": mode})
    np.testing.assert_allclose(in_form, found, atol=1e-6)


@pytest.mark.parametrize("local", [True, False])
def test_predict_command_prepares_as_it_is_told(
    embedded: ServeCommand, engine: Engine, photograph: bytes, tmp_path: Path, local: bool
) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(photograph)
    for mode in ("auto", "none"):
        where = ["--local"] if local else ["--url", embedded.url]
        command = [COMMAND, "predict", "--json", "--prepare", mode, *where, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        (prediction,) = json.loads(done.stdout)["predictions"]
        np.testing.assert_allclose(_probabilities(prediction), expected(engine, photograph, mode), atol=1e-5)


def test_photograph_is_answered_rightly_and_the_answer_says_what_was_done(
    embedded: ServeCommand, dataset: Dataset, photograph: bytes
) -> None:
    (prediction,) = httpx.post(embedded.url, content=photograph, timeout=TIMEOUT_S).json()["predictions"]
    assert prediction["label"] == CLASSES[dataset.test.labels[1]]
    assert not prediction["unknown"]
    assert "background removed" in prediction["adjusted"]
    assert "inverted" in prediction["adjusted"]


def test_raw_negatives_are_prepared_where_that_is_asked_for(
    embedded: ServeCommand, engine: Engine, dataset: Dataset
) -> None:
    negatives = 255 - dataset.test.images[:500]
    found = []
    for mode in ("auto", "always"):
        answer = httpx.post(f"{embedded.url}?prepare={mode}", content=negatives.tobytes(), timeout=TIMEOUT_S).json()
        found.append([prediction["index"] for prediction in answer["predictions"]])
    right = [np.mean(np.array(indices) == dataset.test.labels[:500]) for indices in found]
    assert right[0] < 0.5  # as they are
    assert right[1] > 0.88


@pytest.mark.parametrize("way", ["native", "v1", "OIP, REST", "OIP, gRPC"])
def test_picture_of_nothing_is_unknown_in_every_protocol(embedded: ServeCommand, empty: bytes, way: str) -> None:
    encoded = base64.b64encode(empty).decode()
    if way == "native":
        (prediction,) = httpx.post(embedded.url, content=empty, timeout=TIMEOUT_S).json()["predictions"]
        assert NOTHING_FOUND in prediction["adjusted"]
        assert prediction["unknown"]
    elif way == "v1":
        url = embedded.url.replace(PATH, "/v1/models/fashion_mnist:predict")
        answer = httpx.post(url, json={"instances": [{"b64": encoded}]}, timeout=TIMEOUT_S).json()
        assert answer["predictions"][0]["unknown"]
        assert NOTHING_FOUND in answer["predictions"][0]["adjusted"]
    elif way == "OIP, REST":
        url = embedded.url.replace(PATH, "/v2/models/fashion_mnist/infer")
        image = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [encoded]}
        answer = httpx.post(url, json={"inputs": [image]}, timeout=TIMEOUT_S).json()
        assert {output["name"]: output["data"] for output in answer["outputs"]}["unknown"] == [True]
    else:
        inputs = [{"name": "images", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [empty]}}]
        stub = Stub(embedded)
        with stub.channel:
            assert values(stub.infer(inputs=inputs))["unknown"] == [True]


@pytest.mark.parametrize("options", [{"params": {"prepare": "much"}}, {"headers": {"x-prepare": "much"}}])
def test_unknown_preparation_is_refused(embedded: ServeCommand, options: dict[str, Any]) -> None:
    response = httpx.post(embedded.url, content=bytes(784), timeout=TIMEOUT_S, **options)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_parameter"


def test_too_many_pictures_to_prepare_are_refused_before_it_takes_time(embedded: ServeCommand) -> None:
    content = bytes(784 * (MAX_PREPARED + 1))
    response = httpx.post(f"{embedded.url}?prepare=always", content=content, timeout=TIMEOUT_S)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_many_images"


def test_setting_decides_where_a_request_says_nothing(
    model_store: Path, photograph: bytes, engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(photograph)
    environment = {**os.environ, "FASHION_MNIST_PREPARE": "none"}
    command = [COMMAND, "predict", "--json", "--local", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    (prediction,) = json.loads(done.stdout)["predictions"]
    np.testing.assert_allclose(_probabilities(prediction), expected(engine, photograph, "none"), atol=1e-5)


def test_setting_takes_every_mode() -> None:
    (row,) = (row for row in table() if row["name"] == "prepare")
    assert tuple(row["type"].split(" | ")) == MODES
