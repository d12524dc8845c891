"""`POST /explain`: what the layers make of an image, with either engine, for every kind of body."""

import base64
import gzip
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from export.explain import outputs_of
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.network import load_weights
from gateway.models.explanations import MAX_WAITING
from tests.support.command import ServeCommand
from training.photographs import photograph

TIMEOUT_S = 30
OCTETS = "application/octet-stream"


@pytest.fixture(params=["embedded", "in_front"])
def server(request: pytest.FixtureRequest) -> ServeCommand:
    """The gateway with its own engine, and in front of TorchServe."""
    found: ServeCommand = request.getfixturevalue(request.param)
    return found


def post(server: ServeCommand, body: bytes, query: str = "", **headers: str) -> httpx.Response:
    url = server.url.replace("/predictions/fashion_mnist", "/explain") + query
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, content=body, headers=named, timeout=TIMEOUT_S)


def layers_of(document: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        layer["name"]: np.array(layer["values"], np.float32).reshape(layer["shape"]) for layer in document["layers"]
    }


def test_the_layers_are_pytorch_s(server: ServeCommand, model_store: Path, dataset: Dataset) -> None:
    image = dataset.test.images[3, 0]
    document = post(server, image.tobytes()).json()
    found = layers_of(document)
    expected = outputs_of(load_weights(model_store / "weights.pt"), image[None])
    assert [*expected, "probabilities"] == list(found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values[0], atol=1e-4, rtol=0, err_msg=name)
    assert document["input"] == {"shape": [1, 28, 28], "values": image.ravel().tolist()}


def test_the_answer_is_that_of_a_prediction(server: ServeCommand, dataset: Dataset) -> None:
    for image in dataset.test.images[:10, 0]:
        explained = post(server, image.tobytes(), "?occlusion=0&steps=0").json()
        predicted = httpx.post(server.url, content=image.tobytes(), headers={"Content-Type": OCTETS}).json()
        (due,) = predicted["predictions"]
        found = explained["prediction"]
        assert explained["model_version"] == predicted["model_version"]
        assert (found["label"], found["index"], found["unknown"]) == (due["label"], due["index"], due["unknown"])
        assert found["probabilities"] == pytest.approx(due["probabilities"], abs=1e-5)
        assert found["unknown_score"] == pytest.approx(due["unknown_score"], abs=1e-3)


def bodies(image: np.ndarray) -> dict[str, tuple[bytes, str]]:
    array, boundary = io.BytesIO(), "frontier"
    np.save(array, image)
    png = encode_image(image)
    idx = b"\0\0\x08\x03" + np.array([1, 28, 28], ">u4").tobytes() + image.tobytes()
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
    option = f'--{boundary}\r\nContent-Disposition: form-data; name="prepare"\r\n\r\nnone\r\n'.encode()
    color = Image.fromarray(image).convert("RGB")
    webp = io.BytesIO()
    color.save(webp, "WEBP", lossless=True)
    return {
        "raw": (image.tobytes(), OCTETS),
        "png": (png, "image/png"),
        "webp": (webp.getvalue(), "image/webp"),
        "npy": (array.getvalue(), ""),
        "idx": (idx, "application/x-idx"),
        "gzipped idx": (gzip.compress(idx), OCTETS),
        "pixels": (json.dumps(image.tolist()).encode(), "application/json"),
        "base64": (json.dumps(base64.b64encode(png).decode()).encode(), "application/json"),
        "instances": (json.dumps({"instances": [image.tolist()]}).encode(), "application/json"),
        "form": (
            option + part + png + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
        ),
    }  # fmt: skip


def test_every_kind_of_body_gives_the_same(embedded: ServeCommand, dataset: Dataset) -> None:
    image = dataset.test.images[5, 0]
    found = {}
    for kind, (body, content_type) in bodies(image).items():
        answer = post(embedded, body, "?occlusion=0&steps=0", content_type=content_type)
        assert answer.status_code == 200, (kind, answer.text)
        document = answer.json()
        found[kind] = {name: document[name] for name in ("prediction", "input", "layers")}
    assert all(each == found["raw"] for each in found.values())


@pytest.mark.parametrize("mode", ["auto", "always", "paper", "none"])
def test_a_photograph_is_shown_on_its_way(embedded: ServeCommand, dataset: Dataset, mode: str) -> None:
    picture = photograph([dataset.test.images[0, 0]], "mixed", 3)
    document = post(embedded, picture, f"?prepare={mode}&occlusion=0").json()
    predicted = httpx.post(f"{embedded.url}?prepare={mode}", content=picture, timeout=TIMEOUT_S).json()
    (due,) = predicted["predictions"]
    assert document["prediction"]["label"] == due["label"]
    assert document["adjusted"] == due["adjusted"]
    assert "occlusion" not in document
    steps = [step["step"] for step in document["preparation"]]
    assert (steps[0], steps[-1]) == ("original", "input")
    assert set(steps[1:-1]) <= set(due["adjusted"])
    if mode == "auto":
        assert "background removed" in steps
    for step in document["preparation"]:
        with Image.open(io.BytesIO(base64.b64decode(step["png"]))) as shown:
            assert shown.size == (step["width"], step["height"])
            assert max(shown.size) <= 224
            last = np.asarray(shown)
    assert last.ravel().tolist() == document["input"]["values"]
    header = post(embedded, picture, "?occlusion=0&steps=0", X_Prepare=mode).json()
    assert header["input"] == document["input"]
    assert "preparation" not in header


def test_what_needs_no_preparation_shows_itself_alone(embedded: ServeCommand, dataset: Dataset) -> None:
    document = post(embedded, dataset.test.images[0, 0].tobytes()).json()
    assert [step["step"] for step in document["preparation"]] == ["original", "input"]
    assert document["adjusted"] == []


def test_raw_numbers_are_those_of_the_json(embedded: ServeCommand, dataset: Dataset) -> None:
    body = dataset.test.images[8, 0].tobytes()
    document = post(embedded, body).json()
    values = [value for layer in document["layers"] for value in layer["values"]]
    whole = post(embedded, body, accept=OCTETS)
    assert whole.headers["content-type"] == OCTETS
    assert whole.headers["x-model-version"] == document["model_version"]
    assert json.loads(whole.headers["x-adjusted"]) == []
    due = np.array([*values, *document["occlusion"]["values"]], "<f4")
    np.testing.assert_array_equal(np.frombuffer(whole.content, "<f4"), due)
    without = post(embedded, body, "?occlusion=0", accept=OCTETS)
    np.testing.assert_array_equal(np.frombuffer(without.content, "<f4"), due[: len(values)])


def test_the_time_is_told_as_for_predictions(embedded: ServeCommand, dataset: Dataset) -> None:
    answer = post(embedded, dataset.test.images[8, 0].tobytes(), X_Request_Id="mine")
    assert answer.headers["x-request-id"] == "mine"
    stages = [stage.split(";")[0].strip() for stage in answer.headers["server-timing"].split(",")]
    assert stages == ["parse", "decode", "queue", "engine", "encode"]


@pytest.mark.parametrize(
    ("body", "query", "status", "code"),
    [
        (b"", "", 400, "empty_body"),
        (b"no image", "", 400, "bad_length"),
        (bytes(2 * 784), "", 400, "bad_length"),
        (bytes(784), "?top_k=3", 400, "bad_parameter"),
        (bytes(784), "?occlusion=yes", 400, "bad_parameter"),
        (bytes(784), "?steps=", 400, "bad_parameter"),
        (bytes(784), "?prepare=some", 400, "bad_parameter"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "", 400, "corrupt_image"),
        (json.dumps([[[0] * 28] * 28] * 3).encode(), "", 400, "bad_length"),
        (json.dumps({"instances": [[[999] * 28] * 28]}).encode(), "", 400, "bad_pixels"),
        (bytes(17 * 2**20), "", 413, "body_too_large"),
    ],
)
def test_bad_input_is_told_what_to_change(
    embedded: ServeCommand, body: bytes, query: str, status: int, code: str
) -> None:
    answer = post(embedded, body, query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"]["message"]


def test_a_huge_picture_costs_nothing(embedded: ServeCommand) -> None:
    picture = encode_image(np.zeros((20_000, 3), np.uint8))
    header = picture.replace((3).to_bytes(4, "big"), (20_000).to_bytes(4, "big"), 1)
    answer = post(embedded, header)
    assert answer.status_code in (400, 413), answer.text


def test_it_is_asked_by_post(embedded: ServeCommand) -> None:
    answer = httpx.get(embedded.url.replace("/predictions/fashion_mnist", "/explain"), timeout=TIMEOUT_S)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, PUT"


def test_no_more_wait_than_there_is_room_for(embedded: ServeCommand, dataset: Dataset) -> None:
    picture = photograph([dataset.test.images[0, 0]], "mixed", 3)
    send: Callable[[int], httpx.Response] = lambda _: post(embedded, picture)  # noqa: E731
    with ThreadPoolExecutor(4 * MAX_WAITING) as clients:
        answers = list(clients.map(send, range(4 * MAX_WAITING)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded"
    assert refused.headers["retry-after"]
    # And every place is given back.
    for _ in range(MAX_WAITING + 1):
        assert post(embedded, picture).status_code == 200
