"""The served endpoint: the real TorchServe, its worker, the archive, and what clients send to it."""

import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.handler_interface import metrics
from fashion_mnist.model_store import HEALTH_IMAGE, model_card, model_store_path
from fashion_mnist.settings import Settings
from handlers.worker import TELL_S
from tests.support.bodies import OCTET_STREAM, Body, bad_bodies, good_bodies
from tests.support.command import wait_until
from tests.support.torchserve import RunningServer

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
TIMEOUT_S = 20.0


def post(server: RunningServer, content: bytes, content_type: str = OCTET_STREAM, **headers: str) -> httpx.Response:
    sent = {"content-type": content_type} if content_type else {}
    return httpx.post(server.url, content=content, headers=sent | headers, timeout=TIMEOUT_S)


def at_socket(path: Path) -> httpx.Client:
    """A client of a Unix socket."""
    transport = httpx.HTTPTransport(verify=False, uds=str(path))
    return httpx.Client(transport=transport, base_url="http://localhost", timeout=TIMEOUT_S)


def alive(server: RunningServer) -> bool:
    content = (model_store_path(Settings.from_environment()) / HEALTH_IMAGE[0]).read_bytes()
    return bool(post(server, content, "image/png").json()["predictions"][0]["label"] == HEALTH_IMAGE[1])


@pytest.mark.parametrize("body", good_bodies(GARMENTS), ids=lambda body: body.name)
def test_each_kind_of_body_is_answered(torchserve: RunningServer, body: Body) -> None:
    response = post(torchserve, body.content, body.content_type)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert len(response.json()["predictions"]) == body.images


@pytest.mark.parametrize("body", bad_bodies(GARMENTS[0]), ids=lambda body: body.name)
def test_a_bad_body_is_a_4xx_that_says_why(torchserve: RunningServer, body: Body) -> None:
    response = post(torchserve, body.content, body.content_type)
    assert 400 <= response.status_code < 500
    assert response.json()["error"]["code"] == body.code
    assert alive(torchserve)


def test_bad_bodies_among_good_ones_harm_none(torchserve: RunningServer, dataset: Dataset) -> None:
    """Sent at once, they share batches: every good one still gets what it gets alone."""
    images = dataset.test.images[:200]
    expected = open_engine(model_store_path(Settings.from_environment()), "onnx", "cpu").predict(images).argmax(axis=1)
    bad = [body for body in bad_bodies(GARMENTS[0]) if len(body.content) < 100_000]

    def send(index: int) -> tuple[httpx.Response, httpx.Response]:
        wrong = bad[index % len(bad)]
        return (
            post(torchserve, encode_image(images[index]), "image/png"),
            post(torchserve, wrong.content, wrong.content_type),
        )

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(len(images))))
    assert [good.json()["predictions"][0]["index"] for good, _ in answers] == expected.tolist()
    assert [refused.json()["error"]["code"] for _, refused in answers] == [
        bad[index % len(bad)].code for index in range(len(images))
    ]


def test_the_test_set_gets_the_accuracy_of_the_card(torchserve: RunningServer, dataset: Dataset) -> None:
    response = post(torchserve, dataset.test.images.tobytes(), OCTET_STREAM, accept=OCTET_STREAM)
    assert response.status_code == 200
    predicted = np.frombuffer(response.content, "<f4").reshape(-1, 10).argmax(axis=1)
    card = model_card(model_store_path(Settings.from_environment()))
    assert (predicted == dataset.test.labels).mean() == pytest.approx(card["evaluation"]["accuracy"], abs=1e-6)


def test_an_answer_as_octets_and_as_json_is_the_same(torchserve: RunningServer, dataset: Dataset) -> None:
    content = dataset.test.images[:50].tobytes()
    octets = np.frombuffer(post(torchserve, content, accept=OCTET_STREAM).content, "<f4").reshape(-1, 10)
    predictions = post(torchserve, content).json()["predictions"]
    read = np.array([list(prediction["probabilities"].values()) for prediction in predictions], np.float32)
    assert np.array_equal(read, octets)
    assert [prediction["label"] for prediction in predictions] == [CLASSES[index] for index in octets.argmax(axis=1)]


class TestForms:
    def test_files_of_one_name_are_all_answered(self, torchserve: RunningServer) -> None:
        files = [("image", (f"{index}.png", encode_image(image), "image/png")) for index, image in enumerate(GARMENTS)]
        response = httpx.post(torchserve.url, files=files, timeout=TIMEOUT_S)
        expected = post(torchserve, GARMENTS.tobytes()).json()
        assert response.json() == expected

    def test_one_bad_file_has_an_error_in_its_place(self, torchserve: RunningServer) -> None:
        png = encode_image(GARMENTS[0])
        files = [("a", ("a", png)), ("b", ("b", png[:50])), ("c", ("c", b"")), ("d", ("d", png))]
        response = httpx.post(torchserve.url, files=files, timeout=TIMEOUT_S)
        assert response.status_code == 200
        found = [prediction.get("error", {}).get("code") for prediction in response.json()["predictions"]]
        assert found == [None, "corrupt_image", "empty_body", None]

    def test_a_field_name_that_is_no_utf_8(self, torchserve: RunningServer) -> None:
        body = (
            b'--x\r\nContent-Disposition: form-data; name="\xff\xfe"; filename="a"\r\n\r\n'
            + encode_image(GARMENTS[0])
            + b"\r\n--x--\r\n"
        )
        response = post(torchserve, body, "multipart/form-data; boundary=x")
        assert response.status_code == 200 or 400 <= response.status_code < 500
        assert alive(torchserve)

    @pytest.mark.parametrize("body", [b"", b"no boundary in it", b"--x\r\n", b"--x--\r\n"])
    def test_a_form_without_a_field(self, torchserve: RunningServer, body: bytes) -> None:
        response = post(torchserve, body, "multipart/form-data; boundary=x")
        assert 400 <= response.status_code < 500
        assert alive(torchserve)

    def test_curls_default_type_is_explained(self, torchserve: RunningServer) -> None:
        response = post(torchserve, b"image=0123", "application/x-www-form-urlencoded")
        assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert "-T FILE" in response.json()["error"]["message"]

    def test_binary_under_curls_default_type_is_refused_by_torchserve_itself(self, torchserve: RunningServer) -> None:
        # Its front end fails to take the bytes apart as a form and answers 500 before our handler sees them.
        response = post(torchserve, encode_image(GARMENTS[0]), "application/x-www-form-urlencoded")
        assert response.status_code >= 400
        assert alive(torchserve)


def test_top_k(torchserve: RunningServer) -> None:
    answer = httpx.post(
        torchserve.url, content=GARMENTS[:1].tobytes(), headers={"X-Top-K": "2"}, timeout=TIMEOUT_S
    ).json()
    assert len(answer["predictions"][0]["probabilities"]) == 2
    form = httpx.post(
        torchserve.url, files={"image": encode_image(GARMENTS[0])}, data={"top_k": "3"}, timeout=TIMEOUT_S
    )
    assert [len(prediction["probabilities"]) for prediction in form.json()["predictions"]] == [3]
    refused = httpx.post(torchserve.url, content=b"1", headers={"x-top-k": "eleven"}, timeout=TIMEOUT_S)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize("megabytes", [17, 100])
def test_a_body_that_is_too_large(torchserve: RunningServer, megabytes: int) -> None:
    body = bytes(megabytes * 10**6)
    with ThreadPoolExecutor(2) as pool:
        responses = list(pool.map(lambda _: post(torchserve, body), range(2)))
    for response in responses:
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"
        assert "16,777,216" in response.json()["error"]["message"]
    assert alive(torchserve)


def test_a_header_with_a_line_break_injects_nothing(torchserve: RunningServer) -> None:
    address = urlsplit(torchserve.url)
    body = GARMENTS[:1].tobytes()
    for header in (b"Content-Type: image/\r\n png", b"Content-Type: a\nX-Injected: 1", b"Accept: \xff\xfe", b"X: a\rb"):
        with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S) as client:
            head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n\r\n"
            client.sendall(head % (address.path.encode(), len(body), header) + body)
            answer = http.client.HTTPResponse(client)
            answer.begin()
            answer.read()
        assert answer.status == 200 or 400 <= answer.status < 500, header
        assert answer.getheader("X-Injected") is None
    assert alive(torchserve)


def test_a_client_that_leaves_half_way_harms_nobody(torchserve: RunningServer) -> None:
    address = urlsplit(torchserve.url)
    for _ in range(20):
        with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S) as client:
            client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n1234" % address.path.encode())
    assert alive(torchserve)


def test_management_is_closed(torchserve: RunningServer) -> None:
    with at_socket(torchserve.folder.management) as client:
        assert client.post("/models?url=file:///etc/passwd").status_code >= 400
        assert client.delete("/models/fashion_mnist").status_code >= 400
    assert alive(torchserve)


def test_metrics_count_images(torchserve: RunningServer) -> None:
    def counted(name: str) -> float:
        with at_socket(torchserve.folder.metrics) as client:
            text = client.get("/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name}{{"))

    def settled() -> tuple[float, float]:
        """Both counts, once those of earlier requests have been told too, which the worker does some moments late."""
        seen, since = (-1.0, -1.0), time.monotonic()

        def still() -> bool:
            nonlocal seen, since
            now = counted(metrics.IMAGES), counted(metrics.REFUSED)
            if now != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 4 * TELL_S

        wait_until(still, "counts that stay as they are", 20)
        return seen

    answered, refused = settled()
    post(torchserve, GARMENTS.tobytes())
    post(torchserve, b"1")
    wait_until(lambda: counted(metrics.IMAGES) == answered + 3, "the count of images", 10)
    wait_until(lambda: counted(metrics.REFUSED) == refused + 1, "the count of refused images", 10)


def test_the_log_stays_small_under_load(torchserve: RunningServer) -> None:
    before = torchserve.folder.log.stat().st_size
    with httpx.Client(timeout=TIMEOUT_S) as client:
        for _ in range(500):
            client.post(torchserve.url, content=GARMENTS.tobytes(), headers={"content-type": OCTET_STREAM})
    assert torchserve.folder.log.stat().st_size - before < 1000
