"""The API: one corpus by every way in, and what stands around the answers."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.client.http import Client
from fashion_mnist.data.splits import Dataset
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.model_store import HEALTH_IMAGE, model_card, model_version, unknown_threshold
from fashion_mnist.predictions import encode_error, encode_json
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST
from tests.support.bodies import OCTET_STREAM, Body, bad_bodies, disguised_bodies, good_bodies, png_of_size
from tests.support.command import ServeCommand
from tests.support.torchserve import RunningServer

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
TIMEOUT_S = 20.0
CORPUS = [*good_bodies(GARMENTS), *disguised_bodies(GARMENTS[0]), *bad_bodies(GARMENTS[0])]

Found = tuple[int, Any]


def post(url: str, content: bytes, content_type: str = OCTET_STREAM, **headers: str) -> httpx.Response:
    sent = {"content-type": content_type} if content_type else {}
    return httpx.post(url, content=content, headers=sent | headers, timeout=TIMEOUT_S)


def served(url: str) -> Callable[[Body], Found]:
    def ask(body: Body) -> Found:
        response = post(url, body.content, body.content_type)
        return response.status_code, response.json()

    return ask


@pytest.fixture(scope="module")
def local(model_store: Path) -> Callable[[Body], Found]:
    """What `predict --local` does."""
    engine = open_engine(model_store, "onnx", "cpu")
    version, threshold = model_version(model_store), unknown_threshold(model_store)
    limits = Limits.from_settings(Settings())

    def ask(body: Body) -> Found:
        try:
            decoded = decode(body.content, body.content_type, limits, FASHION_MNIST)
            return 200, json.loads(encode_json(engine.predict(decoded.pixels), decoded, version, threshold))
        except FashionMNISTError as error:
            return error.status, json.loads(encode_error(error, None))

    return ask


@pytest.mark.parametrize("body", CORPUS, ids=lambda body: body.name)
def test_every_way_in_gives_the_same_answer(
    body: Body,
    torchserve: RunningServer,
    in_front: ServeCommand,
    embedded: ServeCommand,
    local: Callable[[Body], Found],
) -> None:
    status, expected = local(body)
    assert (status == 200) == bool(body.images)
    for url in (torchserve.url, in_front.url, embedded.url):
        found = served(url)(body)
        assert found[0] == status
        if status == 200:
            # ONNX Runtime's last digits depend on the size of the batch.
            assert labels(found[1]) == labels(expected)
            assert found[1]["model_version"] == expected["model_version"]
            np.testing.assert_allclose(probabilities(found[1]), probabilities(expected), rtol=1e-4, atol=1e-7)
            assert unknown(found[1]) == unknown(expected)
            np.testing.assert_allclose(unknown_scores(found[1]), unknown_scores(expected), atol=2e-4)
        else:
            assert found[1] == expected


def labels(answer: Any) -> list[str]:
    return [prediction["label"] for prediction in answer["predictions"]]


def probabilities(answer: Any) -> np.ndarray:
    return np.array([[prediction["probabilities"][name] for name in CLASSES] for prediction in answer["predictions"]])


def unknown(answer: Any) -> list[bool]:
    return [prediction["unknown"] for prediction in answer["predictions"]]


def unknown_scores(answer: Any) -> np.ndarray:
    return np.array([prediction["unknown_score"] for prediction in answer["predictions"]])


@pytest.fixture(params=["embedded", "in_front"])
def url(request: pytest.FixtureRequest) -> str:
    """Each engine's prediction endpoint."""
    return str(request.getfixturevalue(request.param).url)


class TestForms:
    def test_each_field_is_a_file(self, url: str) -> None:
        files = [("image", ("a.png", encode_image(GARMENTS[0]))), ("image", ("b.raw", GARMENTS[1].tobytes()))]
        response = httpx.post(url, files=files, timeout=TIMEOUT_S)
        assert response.status_code == 200
        alone = [post(url, image.tobytes()).json()["predictions"][0]["label"] for image in GARMENTS[:2]]
        assert labels(response.json()) == alone

    def test_a_bad_file_fails_alone(self, url: str) -> None:
        files = [("a", encode_image(GARMENTS[0])), ("b", b"not an image"), ("c", encode_image(GARMENTS[1]))]
        response = httpx.post(url, files=files, timeout=TIMEOUT_S)
        assert response.status_code == 200
        found = response.json()["predictions"]
        assert [("error" in prediction) for prediction in found] == [False, True, False]
        assert found[1]["error"]["index"] == 1

    def test_top_k_is_a_field_too(self, url: str) -> None:
        response = httpx.post(url, files={"image": encode_image(GARMENTS[0])}, data={"top_k": "3"}, timeout=TIMEOUT_S)
        assert len(response.json()["predictions"][0]["probabilities"]) == 3

    @pytest.mark.parametrize(
        ("content_type", "content"),
        [
            ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
            ("multipart/form-data; boundary=x", b""),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nabc"),
            ("multipart/form-data; boundary=x", b"--y\r\n\r\n--y--\r\n"),
            ("multipart/form-data; boundary=x", b"--x--\r\n"),
            ("multipart/form-data; boundary=" + "x" * 1000, b"--x--\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 1000 + b"\r\nabc\r\n--x--\r\n"),
        ],
    )
    def test_a_form_that_is_none(self, url: str, content_type: str, content: bytes) -> None:
        response = post(url, content, content_type)
        assert response.status_code == 400
        assert response.json()["error"]["code"] in ("bad_multipart", "empty_body")

    def test_a_flood_of_fields(self, url: str) -> None:
        field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
        response = post(url, field * 20_000 + b"--x--\r\n", "multipart/form-data; boundary=x")
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_many_images"

    def test_what_curl_says_of_a_body_by_itself_does_not_matter(self, url: str) -> None:
        response = post(url, encode_image(GARMENTS[0]), "application/x-www-form-urlencoded")
        assert response.status_code == 200


class TestForm:
    """Of the answer."""

    @pytest.mark.parametrize("query", ["?top_k=2", ""])
    def test_the_likeliest_classes(self, url: str, query: str) -> None:
        headers = {} if query else {"x-top-k": "2"}
        found = httpx.post(url + query, content=GARMENTS[0].tobytes(), headers=headers, timeout=TIMEOUT_S).json()
        assert len(found["predictions"][0]["probabilities"]) == 2

    def test_octets(self, url: str) -> None:
        response = post(url, GARMENTS.tobytes(), accept=OCTET_STREAM)
        assert response.headers["content-type"] == OCTET_STREAM
        found = np.frombuffer(response.content, "<f4").reshape(3, 10)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)

    def test_octets_have_no_room_for_an_error(self, url: str) -> None:
        content = json.dumps([GARMENTS[0].tolist(), [[256]]]).encode()
        response = post(url, content, "application/json", accept=OCTET_STREAM)
        assert response.status_code == 400
        assert response.json()["error"]["index"] == 1

    def test_a_request_keeps_its_name(self, url: str) -> None:
        assert post(url, bytes(784), **{"x-request-id": "my-17"}).headers["x-request-id"] == "my-17"
        first, second = (post(url, bytes(784)).headers["x-request-id"] for _ in range(2))
        assert first != second
        assert post(url, b"\x01", **{"x-request-id": "my-18"}).headers["x-request-id"] == "my-18"

    @pytest.mark.parametrize("name", ["a b", "x" * 129, "ä"])
    def test_a_name_that_is_none_is_replaced(self, url: str, name: str) -> None:
        response = httpx.post(url, content=bytes(784), headers={b"x-request-id": name.encode()}, timeout=TIMEOUT_S)
        assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", response.headers["x-request-id"])

    def test_where_the_time_went(self, url: str) -> None:
        timing = post(url, bytes(784)).headers["server-timing"]
        assert re.fullmatch(
            ", ".join(rf"{stage};dur=\d+\.\d+" for stage in ("parse", "decode", "queue", "engine", "encode")), timing
        )


def test_the_test_set_gets_its_labels_by_many_at_once(url: str, dataset: Dataset, model_store: Path) -> None:
    images = dataset.test.images
    expected = open_engine(model_store, "onnx", "cpu").predict(images).argmax(axis=1)
    found = (
        np.frombuffer(post(url, images.tobytes(), accept=OCTET_STREAM).content, "<f4").reshape(-1, 10).argmax(axis=1)
    )
    np.testing.assert_array_equal(found, expected)
    with httpx.Client(timeout=TIMEOUT_S) as client, ThreadPoolExecutor(16) as pool:
        singly = list(pool.map(lambda image: client.post(url, content=encode_image(image)).json(), images[:500]))
    assert [answer["predictions"][0]["index"] for answer in singly] == expected[:500].tolist()


def test_the_accuracy_of_answers_is_the_model_cards(url: str, dataset: Dataset, model_store: Path) -> None:
    """Real test images, all 10,000 of them, through the gateway and each engine behind it, TorchServe too."""
    with Client(url) as client:
        found = client.predict(dataset.test.images)
    right = int((found.argmax(axis=1) == dataset.test.labels).sum())
    evaluation = model_card(model_store)["evaluation"]
    assert (right, len(found)) == (round(evaluation["accuracy"] * evaluation["images"]), evaluation["images"])


def test_slow_images_do_not_hold_up_others(url: str, model_store: Path) -> None:
    """While large images are decoded, small ones are answered: both by many clients at once."""
    large = png_of_size(4000, 4000)
    health_image = (model_store / HEALTH_IMAGE[0]).read_bytes()
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(post, url, large, "image/png") for _ in range(6)]
        while not all(future.done() for future in slow):
            assert labels(post(url, health_image).json()) == [HEALTH_IMAGE[1]]
    assert {future.result().status_code for future in slow} == {200}


def test_health(url: str) -> None:
    base = url.removesuffix("/predictions/fashion_mnist")
    for page, word in [("live", "live"), ("ready", "ready"), ("startup", "started")]:
        response = httpx.get(f"{base}/health/{page}", timeout=TIMEOUT_S)
        assert (response.status_code, response.json()) == (200, {"status": word})
    assert httpx.get(f"{base}/ping", timeout=TIMEOUT_S).json() == {"status": "Healthy"}
