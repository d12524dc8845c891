"""The Open Inference Protocol over HTTP, as JSON and with binary tensors."""

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.encoding import encode_image
from fashion_mnist.model_store import model_store_path, model_version
from fashion_mnist.settings import Settings
from tests.support.bodies import OCTET_STREAM, png_of_size
from tests.support.command import ServeCommand

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
TIMEOUT_S = 20.0
VERSION = model_version(model_store_path(Settings()))
INFER = "/v2/models/fashion_mnist/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(params=["embedded", "in_front"])
def base(request: pytest.FixtureRequest) -> str:
    """Each engine's address."""
    url: str = request.getfixturevalue(request.param).url
    return url.removesuffix("/predictions/fashion_mnist")


@pytest.fixture
def one(embedded: ServeCommand) -> str:
    """The embedded engine's address."""
    return embedded.url.removesuffix("/predictions/fashion_mnist")


def pixels(shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": shape, "data": data}


def files(*contents: bytes) -> dict[str, Any]:
    data = [base64.b64encode(content).decode() for content in contents]
    return {"name": "images", "datatype": "BYTES", "shape": [len(contents)], "data": data}


def infer(base: str, tensor: dict[str, Any], path: str = INFER, **more: Any) -> httpx.Response:
    return httpx.post(base + path, json={"inputs": [tensor], **more}, timeout=TIMEOUT_S)


def infer_binary(base: str, head: dict[str, Any], binary: bytes, **headers: str) -> httpx.Response:
    text = json.dumps(head).encode()
    sent = {LENGTH: str(len(text)), "Content-Type": OCTET_STREAM, **headers}
    return httpx.post(base + INFER, content=text + binary, headers=sent, timeout=TIMEOUT_S)


def outputs(response: httpx.Response) -> dict[str, Any]:
    """The data of each output, wherever it stands."""
    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    head = response.content[: int(length)] if length else response.content
    binary = response.content[len(head) :]
    found = {}
    for output in json.loads(head)["outputs"]:
        if "data" in output:
            found[output["name"]] = output["data"]
            continue
        size = output["parameters"]["binary_data_size"]
        found[output["name"]], binary = unpacked(output["datatype"], binary[:size]), binary[size:]
    assert not binary
    return found


def unpacked(datatype: str, content: bytes) -> list[Any]:
    if datatype != "BYTES":
        array: list[Any] = np.frombuffer(content, {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}[datatype]).tolist()
        return array
    labels = []
    while content:
        (size,) = struct.unpack_from("<I", content)
        labels.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    return labels


def expected(base: str) -> np.ndarray:
    """What our own protocol says of the garments."""
    response = httpx.post(
        f"{base}/predictions/fashion_mnist",
        content=GARMENTS.tobytes(),
        headers={"accept": OCTET_STREAM},
        timeout=TIMEOUT_S,
    )
    return np.frombuffer(response.content, "<f4").reshape(-1, 10)


HEAD = {"inputs": [{**pixels([3, 1, 28, 28], None), "parameters": {"binary_data_size": GARMENTS.nbytes}}]}
del HEAD["inputs"][0]["data"]
WAYS = {
    "nested": lambda base: infer(base, pixels([3, 1, 28, 28], GARMENTS[:, None].tolist())),
    "flat": lambda base: infer(base, pixels([3, 28, 28], GARMENTS.ravel().tolist())),
    "files": lambda base: infer(base, files(*map(encode_image, GARMENTS))),
    "binary": lambda base: infer_binary(base, HEAD, GARMENTS.tobytes()),
    "binary answer": lambda base: infer_binary(
        base, {**HEAD, "parameters": {"binary_data_output": True}}, GARMENTS.tobytes()
    ),
    "binary files": lambda base: infer_binary(
        base,
        {
            "inputs": [
                {
                    "name": "images",
                    "datatype": "BYTES",
                    "shape": [3, 1],
                    "parameters": {"binary_data_size": sum(4 + len(encode_image(image)) for image in GARMENTS)},
                }
            ]
        },
        b"".join(struct.pack("<I", len(encode_image(image))) + encode_image(image) for image in GARMENTS),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_send_gives_our_own_answer(base: str, way: str) -> None:
    found, probabilities = outputs(WAYS[way](base)), expected(base)
    # ONNX Runtime's last digits depend on the size of the batch.
    np.testing.assert_allclose(np.reshape(found["probabilities"], (3, 10)), probabilities, rtol=1e-4, atol=1e-7)
    assert found["index"] == probabilities.argmax(axis=1).tolist()
    assert found["label"] == [CLASSES[index] for index in found["index"]]


def test_outputs_come_as_they_are_asked_for(one: str) -> None:
    response = infer(
        one,
        pixels([1, 28, 28], GARMENTS[0].tolist()),
        id="mine",
        outputs=[{"name": "label"}, {"name": "index", "parameters": {"binary_data": True}}],
    )
    head = json.loads(response.content[: int(response.headers[LENGTH])])
    assert (head["id"], head["model_name"], head["model_version"]) == ("mine", "fashion_mnist", VERSION)
    assert [output["name"] for output in head["outputs"]] == ["label", "index"]
    assert outputs(response)["label"] == [CLASSES[outputs(response)["index"][0]]]


def test_many_images_are_answered_as_json(one: str) -> None:
    many = np.zeros((500, 28, 28), np.uint8)
    found = outputs(infer(one, pixels([500, 28, 28], many.tolist())))
    assert np.reshape(found["probabilities"], (500, 10)).sum() == pytest.approx(500, abs=0.01)


def test_a_large_image_is_read_beside_the_others(one: str) -> None:
    assert outputs(infer(one, files(png_of_size(2000, 2000))))["label"]


def test_pixels_are_never_taken_for_a_file(one: str) -> None:
    """A tensor says that it is pixels: even where its first bytes are those of a PNG."""
    content = (encode_image(GARMENTS[0]) + bytes(784))[:784]
    head = {"inputs": [{**HEAD["inputs"][0], "shape": [1, 28, 28], "parameters": {"binary_data_size": 784}}]}
    assert len(outputs(infer_binary(one, head, content))["probabilities"]) == 10


def test_a_version_is_addressed_by_its_path(one: str) -> None:
    tensor = pixels([1, 28, 28], GARMENTS[0].tolist())
    assert infer(one, tensor, f"/v2/models/fashion_mnist/versions/{VERSION}/infer").status_code == 200
    for path in ("/v2/models/fashion_mnist/versions/7/infer", "/v2/models/other/infer", "/v2/models/fashion_mnist/x"):
        response = infer(one, tensor, path)
        assert response.status_code == 404
        assert set(response.json()) == {"error"}


def test_what_it_says_of_itself(base: str) -> None:
    def get(path: str) -> Any:
        response = httpx.get(base + path, timeout=TIMEOUT_S)
        assert response.status_code == 200
        return response.json()

    assert get("/v2")["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live") == {"live": True}
    assert get("/v2/health/ready") == {"ready": True}
    for model in ("/v2/models/fashion_mnist", f"/v2/models/fashion_mnist/versions/{VERSION}"):
        assert get(f"{model}/ready") == {"name": "fashion_mnist", "ready": True}
        said = get(model)
        assert said["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 28, 28]}]
        assert [output["name"] for output in said["outputs"]] == [
            "probabilities",
            "index",
            "label",
            "unknown",
            "unknown_score",
        ]


IMAGE = GARMENTS[0].tolist()
GOOD = pixels([1, 28, 28], IMAGE)
PNG = encode_image(GARMENTS[0])
BAD_TENSORS: dict[str, Any] = {
    "another name": {**GOOD, "name": "image"},
    "no name": {key: value for key, value in GOOD.items() if key != "name"},
    "another type": {**GOOD, "datatype": "FP32"},
    "no type": {key: value for key, value in GOOD.items() if key != "datatype"},
    "a type that is a number": {**GOOD, "datatype": 8},
    "a flat shape": {**GOOD, "shape": [1, 784]},
    "colour": {**GOOD, "shape": [1, 3, 28, 28]},
    "no images": pixels([0, 28, 28], []),
    "a negative shape": {**GOOD, "shape": [-1, 28, 28]},
    "a shape past all": {**GOOD, "shape": [10**30, 28, 28]},
    "a shape that is true": {**GOOD, "shape": [True, 28, 28]},
    "a shape of text": {**GOOD, "shape": ["1", 28, 28]},
    "no shape": {**GOOD, "shape": None},
    "more images than there are": {**GOOD, "shape": [2, 28, 28]},
    "fewer": pixels([1, 28, 28], [IMAGE, IMAGE]),
    "no data": {key: value for key, value in GOOD.items() if key != "data"},
    "data of text": {**GOOD, "data": "x"},
    "a pixel of 256": pixels([1, 28, 28], [256] * 784),
    "a pixel of half": pixels([1, 28, 28], [0.5] * 784),
    "a ragged row": pixels([1, 28, 28], [*IMAGE[1:], 3]),
    "nested without end": pixels([1, 28, 28], json.loads("[" * 50 + "]" * 50)),
    "a file that is none": files(b"nothing"),
    "an empty file": files(b""),
    "one bad file of two": files(PNG, PNG[:-5]),
    "several images in a file": files(GARMENTS.tobytes()),
    "files that are numbers": {**files(PNG), "data": [7]},
    "files that are no base64": {**files(PNG), "data": ["@"]},
    "another number of files": {**files(PNG), "shape": [2]},
    "files of two dimensions": {**files(PNG, PNG), "shape": [1, 2]},
    "parameters of text": {**GOOD, "parameters": "x"},
    "binary data that are not there": {**HEAD["inputs"][0]},
    "no object": [GOOD],
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_bad_tensor_is_refused_with_a_reason(one: str, name: str) -> None:
    refused(infer(one, BAD_TENSORS[name]), 400, 415)


BAD_REQUESTS: dict[str, Any] = {
    "no input": {"inputs": []},
    "two inputs": {"inputs": [GOOD, GOOD]},
    "inputs of text": {"inputs": "images"},
    "nothing": {},
    "an id that is a number": {"id": 7, "inputs": [GOOD]},
    "an unknown output": {"inputs": [GOOD], "outputs": [{"name": "logits"}]},
    "an output twice": {"inputs": [GOOD], "outputs": [{"name": "label"}, {"name": "label"}]},
    "outputs of text": {"inputs": [GOOD], "outputs": ["label"]},
    "classes": {"inputs": [GOOD], "outputs": [{"name": "label", "parameters": {"classification": 3}}]},
    "binary as text": {"inputs": [GOOD], "parameters": {"binary_data_output": "yes"}},
    "a list": [],
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_a_reason(one: str, name: str) -> None:
    refused(httpx.post(one + INFER, json=BAD_REQUESTS[name], timeout=TIMEOUT_S), 400)


@pytest.mark.parametrize("length", ["0", "-1", "x", "1e3", "99999999", "٣", "1 2", "10"])
def test_a_length_that_is_none(one: str, length: str) -> None:
    content = json.dumps(HEAD).encode() + GARMENTS.tobytes()
    headers = {LENGTH.encode(): length.encode()}
    refused(httpx.post(one + INFER, content=content, headers=headers, timeout=TIMEOUT_S), 400)


@pytest.mark.parametrize(
    ("said", "sent"), [(2352, 2351), (2352, 2353), (2351, 2351), (-1, 0), (0, 0), (10**30, 2352), ("2352", 2352)]
)
def test_binary_data_of_another_length(one: str, said: Any, sent: int) -> None:
    head = {"inputs": [{**HEAD["inputs"][0], "parameters": {"binary_data_size": said}}]}
    refused(infer_binary(one, head, bytes(sent)), 400)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", struct.pack("<I", 5) + b"abcd", struct.pack("<I", 2**32 - 1), struct.pack("<II", 0, 0), PNG],
)
def test_a_binary_file_without_its_right_length(one: str, content: bytes) -> None:
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(content)}}
    refused(infer_binary(one, {"inputs": [tensor]}, content), 400)


ODD_VALUES = {
    "nested": "[" * 1000 + "1" + "]" * 1000,
    "nested in objects": '{"a":' * 1000 + "1" + "}" * 1000,
    "of many digits": "7" * 5000,
    "of many digits, negative": "-" + "7" * 5000,
    "true": "true",
    "a fraction": "1.5",
    "past all fractions": "1e400",
    "a list": "[1]",
    "an object": "{}",
    "an empty text": '""',
    "a long text": '"' + "x" * 100_000 + '"',
    "null": "null",
}
PLACES = {
    "shape": ('"shape": [1, 28, 28]', '"shape": %s'),
    "a length in the shape": ('"shape": [1', '"shape": [%s'),
    "another length in the shape": ('"shape": [1, 28', '"shape": [1, %s'),
    "binary_data_size": ('"data": [', '"parameters": {"binary_data_size": %s}, "data": ['),
    "binary_data_size alone": (json.dumps(IMAGE), '[], "parameters": {"binary_data_size": %s}'),
    "prepare": ('{"inputs"', '{"parameters": {"prepare": %s}, "inputs"'),
    "binary_data_output": ('{"inputs"', '{"parameters": {"binary_data_output": %s}, "inputs"'),
    "parameters": ('{"inputs"', '{"parameters": %s, "inputs"'),
    "parameters of a tensor": ('"data": [', '"parameters": %s, "data": ['),
}
UNREAD_OBJECTS = {"null", "an object", "nested in objects"}
GOOD_VALUES = {
    "prepare": {"null"},
    "binary_data_size": {"null"},
    "binary_data_output": {"true"},
    "parameters": UNREAD_OBJECTS,
    "parameters of a tensor": UNREAD_OBJECTS,
}


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_value_of_another_type_is_refused_in_our_words(one: str, place: str, value: str) -> None:
    text = json.dumps({"inputs": [GOOD]})
    before, after = PLACES[place]
    assert before in text
    content = text.replace(before, after % ODD_VALUES[value], 1)
    response = httpx.post(one + INFER, content=content.encode(), timeout=TIMEOUT_S)
    if value in GOOD_VALUES.get(place, ()):
        assert response.status_code == 200, response.text
    else:
        refused(response, 400)
        assert len(response.json()["error"]) < 400


def test_too_much_is_refused_in_the_same_words(one: str) -> None:
    refused(infer(one, {**GOOD, "shape": [10**6, 28, 28]}), 413)
    refused(httpx.post(one + INFER, content=bytes(17 * 2**20), timeout=TIMEOUT_S), 413)
    refused(infer(one, files(png_of_size(8000, 8000))), 413)
    refused(httpx.post(one + INFER, json={"inputs": [GOOD]}, headers={"content-encoding": "gzip"}), 415)
    refused(httpx.get(one + INFER), 405)
    refused(httpx.post(one + "/v2"), 405)


def refused(response: httpx.Response, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    (name, message), *more = response.json().items()
    assert (name, more) == ("error", [])
    assert isinstance(message, str)
    assert message
