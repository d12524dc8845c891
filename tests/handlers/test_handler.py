"""The handler within TorchServe's own contract: its real Context and metrics, no Java."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import DeviceUnavailable, UsageError
from fashion_mnist.handler_interface import metrics
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST
from handlers import torchserve_request
from handlers.fashion_mnist_handler import FashionMNISTHandler
from handlers.repeated_fields import number_repeated
from tests.support.bodies import OCTET_STREAM, Body, bad_bodies, good_bodies
from tests.support.command import wait_until

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)

Request = tuple[dict[str, Any], dict[str, Any]]
"""What TorchServe hands over of a request: its fields, and its headers with the fields' own among them."""


def posted(content: bytes | bytearray | str, content_type: str = OCTET_STREAM, **headers: str) -> Request:
    """A request as TorchServe passes it on: a body under the name "body"."""
    return {"body": content}, {"body": {"content-type": content_type}, "Content-Type": content_type, **headers}


def form(**files: tuple[bytes, str]) -> Request:
    """A multipart form as TorchServe passes it on."""
    fields = {name: bytearray(content) for name, (content, _) in files.items()}
    types: dict[str, Any] = {name: {"content-type": kind} for name, (_, kind) in files.items()}
    return fields, types | {"content-type": "multipart/form-data; boundary=x"}


class Served:
    """A handler that was initialized, with a context of TorchServe's for each batch."""

    def __init__(
        self, model_store: Path, config: dict[str, Any], metrics_file: Path, name: str = "fashion_mnist"
    ) -> None:
        metrics_file.write_text("model_metrics:\n  gauge:\n    - {name: a, unit: ms, dimensions: [Level]}\n")
        metrics = MetricsCacheYamlImpl(str(metrics_file))
        metrics.initialize_cache()
        metrics.model_name = name
        self.context = Context(name, str(model_store), {}, 32, None, "0.12.0", True, metrics, {"handler": config})
        self.handler = FashionMNISTHandler()
        self.handler.initialize(self.context)

    def __call__(self, *requests: Request) -> list[tuple[int, str, Any]]:
        """Status, content type and body (JSON decoded) of each request's answer."""
        self.context.request_processor = [RequestProcessor(dict(headers)) for _, headers in requests]
        bodies = self.handler.handle([dict(fields) for fields, _ in requests], self.context)
        answers = []
        for index, body in enumerate(bodies):
            status, _ = self.context.get_response_status(index)
            kind = self.context.get_response_content_type(index)
            answers.append((status, kind, json.loads(body) if kind == "application/json" else body))
        return answers


@pytest.fixture(scope="module")
def served(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(
        model_store, Settings(device="cpu").for_handler(), tmp_path_factory.mktemp("metrics") / "metrics.yaml"
    )


@pytest.mark.parametrize("body", good_bodies(GARMENTS), ids=lambda body: body.name)
def test_each_kind_of_body_is_answered(served: Served, model_store: Path, body: Body) -> None:
    ((status, kind, answer),) = served(posted(bytearray(body.content), body.content_type))
    assert (status, kind) == (200, "application/json")
    images = GARMENTS[:1].repeat(2, axis=0) if body.name == "base64, several" else GARMENTS[: body.images]
    expected = open_engine(model_store, "onnx", "cpu").predict(images)
    read = [list(prediction["probabilities"].values()) for prediction in answer["predictions"]]
    np.testing.assert_allclose(np.array(read, np.float32), expected, atol=1e-6)
    assert answer["model_version"]


def test_real_images_get_their_labels(served: Served, dataset: Dataset) -> None:
    requests = [posted(encode_image(image)) for image in dataset.test.images[:500]]
    answers = [answer for start in range(0, 500, 32) for answer in served(*requests[start : start + 32])]
    right = [
        answer["predictions"][0]["index"] == label
        for (_, _, answer), label in zip(answers, dataset.test.labels, strict=False)
    ]
    assert np.mean(right) > 0.85


@pytest.mark.parametrize("body", bad_bodies(GARMENTS[0]), ids=lambda body: body.name)
def test_a_bad_request_is_answered_as_such(served: Served, body: Body) -> None:
    ((status, kind, answer),) = served(posted(bytearray(body.content), body.content_type))
    assert 400 <= status < 500
    assert kind == "application/json"
    assert answer["error"]["code"] == body.code
    assert answer["error"]["message"]


def test_bad_requests_never_harm_their_neighbours(served: Served) -> None:
    ((_, _, alone),) = served(posted(encode_image(GARMENTS[1])))
    bad = bad_bodies(GARMENTS[0])
    requests = [
        request
        for body in bad
        for request in (posted(body.content, body.content_type), posted(encode_image(GARMENTS[1])))
    ]
    answers = served(*requests)
    assert [status < 300 for status, _, _ in answers] == [False, True] * len(bad)
    assert [answer["error"]["code"] for _, _, answer in answers[::2]] == [body.code for body in bad]
    for _, _, answer in answers[1::2]:
        assert answer["predictions"][0]["label"] == alone["predictions"][0]["label"]
        np.testing.assert_allclose(
            list(answer["predictions"][0]["probabilities"].values()),
            list(alone["predictions"][0]["probabilities"].values()),
            atol=1e-6,
        )


def test_a_status_line_never_holds_a_clients_text(served: Served) -> None:
    served(posted(b"x", "evil\r\nX-Injected: 1"))
    _, phrase = served.context.get_response_status(0)
    assert phrase == "Unsupported Media Type"


class TestForms:
    def test_each_field_is_an_image(self, served: Served) -> None:
        png = encode_image(GARMENTS[0])
        ((status, _, answer),) = served(
            form(a=(png, "image/png"), b=(GARMENTS.tobytes(), OCTET_STREAM), c=(png, "image/png"))
        )
        assert status == 200
        assert len(answer["predictions"]) == 5

    def test_a_bad_field_has_an_error_in_its_place(self, served: Served) -> None:
        png = encode_image(GARMENTS[0])
        ((status, _, answer),) = served(form(a=(png, "image/png"), b=(png[:40], "image/png"), c=(png, "image/png")))
        assert status == 200
        assert [prediction.get("error", {}).get("index") for prediction in answer["predictions"]] == [None, 1, None]

    def test_a_form_of_bad_images_is_a_4xx(self, served: Served) -> None:
        ((status, _, answer),) = served(form(a=(b"1", OCTET_STREAM), b=(b"2", OCTET_STREAM)))
        assert (status, answer["error"]["code"], answer["error"]["index"]) == (400, "bad_length", 0)

    def test_an_empty_form_says_what_to_send(self, served: Served) -> None:
        ((status, _, answer),) = served(form())
        assert (status, answer["error"]["code"]) == (400, "bad_multipart")

    def test_a_field_may_have_any_name(self, served: Served) -> None:
        ((status, _, _),) = served(form(**{"\ufffd\u2028'; --": (encode_image(GARMENTS[0]), "image/png")}))
        assert status == 200

    def test_fields_of_one_name_are_all_kept(self) -> None:
        parameters = [{"name": name} for name in ("image", "image", "other", "image")]
        number_repeated(parameters)
        assert [parameter["name"] for parameter in parameters] == ["image", "image[1]", "other", "image[2]"]

    def test_curls_default_type_is_explained(self, served: Served) -> None:
        ((status, _, answer),) = served(({"\x89PNG": ""}, {"Content-Type": "application/x-www-form-urlencoded"}))
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
        assert "-T FILE" in answer["error"]["message"]


class TestOptions:
    def test_octets(self, served: Served) -> None:
        ((_, _, answer),) = served(posted(GARMENTS.tobytes()))
        ((status, kind, content),) = served(posted(GARMENTS.tobytes(), ACCEPT="application/octet-stream"))
        assert (status, kind) == (200, OCTET_STREAM)
        probabilities = np.frombuffer(content, "<f4").reshape(-1, 10)
        assert [prediction["index"] for prediction in answer["predictions"]] == probabilities.argmax(axis=1).tolist()

    def test_octets_refuse_a_bad_image_by_its_index(self, served: Served) -> None:
        fields, headers = form(a=(encode_image(GARMENTS[0]), "image/png"), b=(b"1", OCTET_STREAM))
        ((status, kind, answer),) = served((fields, headers | {"accept": OCTET_STREAM}))
        assert (status, kind, answer["error"]["index"]) == (400, "application/json", 1)

    def test_top_k(self, served: Served) -> None:
        fields, headers = posted(GARMENTS[:1].tobytes())
        ((status, _, answer),) = served((fields | {"top_k": bytearray(b"3")}, headers))
        assert status == 200
        assert len(answer["predictions"][0]["probabilities"]) == 3

    def test_top_k_as_a_header(self, served: Served) -> None:
        ((_, _, answer),) = served(posted(GARMENTS[:1].tobytes(), **{"x-top-k": "1"}))
        assert len(answer["predictions"][0]["probabilities"]) == 1

    @pytest.mark.parametrize("parameter", [{"top_k": bytearray(b"0")}, {"topk": bytearray(b"3")}])
    def test_a_bad_parameter_is_named(self, served: Served, parameter: dict[str, Any]) -> None:
        fields, headers = posted(GARMENTS[:1].tobytes())
        ((status, _, answer),) = served((fields | parameter, headers))
        assert (status, answer["error"]["code"]) == (400, "bad_parameter")
        assert next(iter(parameter)) in answer["error"]["message"]

    @pytest.mark.parametrize("value", [[[0] * 28] * 28, json.dumps([[0] * 28] * 28)])
    def test_json_that_torchserve_has_decoded_is_taken_too(self, served: Served, value: Any) -> None:
        ((status, _, _),) = served(posted(value, "application/json"))
        assert status == 200


class TestEngines:
    @pytest.mark.parametrize("runtime", ["onnx", "torchscript"])
    def test_the_archive_chooses_the_runtime(self, model_store: Path, tmp_path: Path, runtime: str) -> None:
        served = Served(model_store, {"runtime": runtime, "device": "cpu"}, tmp_path / "metrics.yaml")
        ((status, _, answer),) = served(posted(GARMENTS.tobytes()))
        assert status == 200
        assert {prediction["label"] for prediction in answer["predictions"]} <= set(CLASSES)

    def test_a_gpu_that_is_not_there_is_the_reason(self, model_store: Path, tmp_path: Path) -> None:
        if Path("/dev/nvidiactl").exists():
            pytest.skip("this machine has a GPU")
        with pytest.raises(DeviceUnavailable, match="NVIDIA driver"):
            Served(model_store, {"device": "cuda"}, tmp_path / "metrics.yaml")

    def test_an_unknown_setting_in_the_archive_is_the_reason(self, model_store: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="enigne"):
            Served(model_store, {"enigne": "onnx"}, tmp_path / "metrics.yaml")

    def test_a_fault_of_ours_fails_its_own_request_only(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(body: bytes, *_: object, **__: object) -> Any:
            if bytes(body[:4]) == b"boom":
                raise MemoryError
            return decode(body, "", Limits.from_settings(Settings()), FASHION_MNIST)

        monkeypatch.setattr(torchserve_request, "decode", broken)
        bad, good = served(posted(b"boom"), posted(GARMENTS.tobytes()))
        assert (bad[0], bad[2]["error"]["code"]) == (500, "internal_error")
        assert good[0] == 200
        assert "MemoryError" in caplog.text

    def test_a_failing_engine_answers_503_in_our_shape(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            def predict(self, images: np.ndarray) -> np.ndarray:
                raise RuntimeError("CUDA error: an illegal memory access")

        monkeypatch.setattr(served.handler, "_engine", Broken())
        good, bad = served(posted(GARMENTS.tobytes()), posted(b"1"))
        assert (good[0], good[2]["error"]["code"]) == (503, "unavailable")
        assert (bad[0], bad[2]["error"]["code"]) == (400, "bad_length")
        assert "illegal memory access" in caplog.text


def test_images_are_counted_through_torchserves_metrics(
    model_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(model_store, Settings(device="cpu").for_handler(), tmp_path / "metrics.yaml", "counted")

    def counted(name: str) -> int:
        lines = re.findall(rf"\[METRICS\]{name}\.Count:([\d.]+)\|#ModelName:counted,", "\n".join(caplog.messages))
        return sum(int(float(count)) for count in lines)

    for _ in range(2):
        served(posted(GARMENTS.tobytes()), posted(b"1"))
    wait_until(lambda: counted(metrics.IMAGES) >= 6 and counted(metrics.REFUSED) >= 2, "the counts", 10)
    assert (counted(metrics.IMAGES), counted(metrics.REFUSED)) == (6, 2)
