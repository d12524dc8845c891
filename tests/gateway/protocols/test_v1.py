"""TensorFlow Serving's and KServe's v1 protocol."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.encoding import encode_image
from fashion_mnist.model_store import model_store_path, model_version
from fashion_mnist.settings import Settings
from tests.support.command import ServeCommand

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
TIMEOUT_S = 20.0
VERSION = model_version(model_store_path(Settings()))
PREDICT = "/v1/models/fashion_mnist:predict"


@pytest.fixture
def base(embedded: ServeCommand) -> str:
    """The embedded engine's address."""
    return embedded.url.removesuffix("/predictions/fashion_mnist")


def predict(base: str, document: Any, path: str = PREDICT) -> httpx.Response:
    return httpx.post(base + path, json=document, timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    "instances",
    [
        GARMENTS.tolist(),
        GARMENTS[:, None].tolist(),
        GARMENTS.reshape(3, 784).tolist(),
        [{"b64": base64.b64encode(encode_image(image)).decode()} for image in GARMENTS],
        [{"images": image.tolist()} for image in GARMENTS],
    ],
)
def test_instances_give_our_own_answer(base: str, instances: list[Any]) -> None:
    response = predict(base, {"instances": instances, "signature_name": "serving_default"})
    assert response.status_code == 200
    assert set(response.json()) == {"predictions"}
    ours = httpx.post(f"{base}/predictions/fashion_mnist", content=GARMENTS.tobytes(), timeout=TIMEOUT_S).json()
    for found, expected in zip(response.json()["predictions"], ours["predictions"], strict=True):
        assert (found["label"], found["index"]) == (expected["label"], expected["index"])
        assert dict(zip(CLASSES, found["probabilities"], strict=True)) == pytest.approx(
            expected["probabilities"], rel=1e-4, abs=1e-7
        )


def test_the_models_state(base: str) -> None:
    assert httpx.get(f"{base}/v1/models", timeout=TIMEOUT_S).json() == {"models": ["fashion_mnist"]}
    for path in ("/v1/models/fashion_mnist", f"/v1/models/fashion_mnist/versions/{VERSION}"):
        state = httpx.get(base + path, timeout=TIMEOUT_S).json()
        assert (state["name"], state["ready"]) == ("fashion_mnist", True)
        assert [(each["version"], each["state"]) for each in state["model_version_status"]] == [(VERSION, "AVAILABLE")]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"instances": []},
        {"instances": 7},
        {"instances": [[1, 2]]},
        {"instances": [GARMENTS[0].tolist(), None]},
        {"instances": [{"b64": "@"}]},
        {"instances": [{"b64": base64.b64encode(GARMENTS.tobytes()).decode()}]},
        {"inputs": GARMENTS.tolist()},
        GARMENTS.tolist(),
        7,
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(base: str, document: Any) -> None:
    refused(predict(base, document), 400)


def test_a_bad_image_is_named_by_its_place(base: str) -> None:
    response = predict(base, {"instances": [GARMENTS[0].tolist(), [1]]})
    assert response.json()["error"].startswith("image 1: ")


def test_an_image_file_is_no_request(base: str) -> None:
    refused(httpx.post(base + PREDICT, content=encode_image(GARMENTS[0]), timeout=TIMEOUT_S), 400)


def test_what_is_not_there(base: str) -> None:
    instances = {"instances": GARMENTS.tolist()}
    assert predict(base, instances, f"/v1/models/fashion_mnist/versions/{VERSION}:predict").status_code == 200
    for path in ("/v1/models/fashion_mnist/versions/2:predict", "/v1/models/other:predict", "/v1/models/fashion_mnist"):
        refused(predict(base, instances, path), 404, 405)
    refused(httpx.get(base + PREDICT, timeout=TIMEOUT_S), 405)


def refused(response: httpx.Response, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    assert set(response.json()) == {"error"}
    assert isinstance(response.json()["error"], str)
