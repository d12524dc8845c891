"""Requests of the other protocols that were once good; the answer is a 200 of their shape or a 4xx of theirs."""

import base64
import http.client
import json
import struct
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from hypothesis import strategies as st

from fashion_mnist.encoding import encode_image
from tests.support.mutations import AT_ONCE, Corpus, altered, damaged

GARMENT = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
PNG = encode_image(GARMENT)
TEXT = base64.b64encode(PNG).decode()
PACKED_PNG = struct.pack("<I", len(PNG)) + PNG


class Sent(NamedTuple):
    """A request."""

    path: str
    body: bytes
    headers: dict[str, str]


def _input(datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": datatype, "shape": shape, **more}


OIP_JSON = [
    {"id": "7", "inputs": [_input("UINT8", [1, 28, 28], data=GARMENT.tolist())], "outputs": [{"name": "label"}]},
    {"inputs": [_input("UINT8", [2, 1, 28, 28], data=[0] * 1568)], "parameters": {"binary_data_output": True}},
    {"inputs": [_input("BYTES", [1], data=[TEXT])], "outputs": [{"name": "index"}, {"name": "probabilities"}]},
]
OIP_BINARY = [
    (
        {
            "inputs": [_input("UINT8", [1, 28, 28], parameters={"binary_data_size": 784})],
            "outputs": [{"name": "label", "parameters": {"binary_data": False}}],
        },
        GARMENT.tobytes(),
    ),
    ({"inputs": [_input("BYTES", [1], parameters={"binary_data_size": len(PACKED_PNG)})]}, PACKED_PNG),
]
V1 = [
    {"instances": [GARMENT.tolist()]},
    {"instances": [{"b64": TEXT}, [0] * 784]},
    {"signature_name": "serving_default", "instances": [TEXT]},
]
OIP_PATHS = ["/v2/models/fashion_mnist/infer"] * 9 + ["/v2/models/fashion_mnist/versions/7/infer"]
V1_PATHS = ["/v1/models/fashion_mnist:predict"] * 9 + ["/v1/models/fashion_mnist/versions/7:predict"]


@st.composite
def with_tensors(draw: st.DrawFn) -> Sent:
    """A request with a binary tensor, whose lengths may lie."""
    template, content = draw(st.sampled_from(range(2)).map(OIP_BINARY.__getitem__))
    head = json.dumps(draw(altered(Corpus([template])))).encode()
    length = len(head) + draw(st.sampled_from([0] * 8 + [1, -1, 10, -len(head), 2**40]))
    headers = {"Inference-Header-Content-Length": draw(st.sampled_from([str(length)] * 9 + ["x"]))}
    body = head + draw(damaged(Corpus([content])))
    return Sent(draw(st.sampled_from(OIP_PATHS)), draw(damaged(Corpus([body]))), headers)


def documents(templates: list[Any], paths: list[str]) -> st.SearchStrategy[Sent]:
    """Requests of altered documents, and of damaged ones."""
    texts = Corpus(json.dumps(template).encode() for template in templates)
    bodies = altered(Corpus(templates)).map(lambda document: json.dumps(document).encode()) | damaged(texts)
    return st.builds(Sent, st.sampled_from(paths), bodies, st.just({"Content-Type": "application/json"}))


def batches(requests: st.SearchStrategy[Sent]) -> st.SearchStrategy[Corpus]:
    """Several requests for one connection."""
    return st.lists(requests, min_size=AT_ONCE, max_size=AT_ONCE).map(Corpus)


def check(url: str, sent: Corpus, is_answer: Callable[[Any], bool]) -> None:
    """Send them to the server of this URL."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    try:
        for path, body, headers in sent:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            found = response.read()
            told = f"{response.status} {found[:300]!r} for {path} {headers} {body[:300]!r}"
            length = response.headers["Inference-Header-Content-Length"]
            document = json.loads(found[: int(length)] if length else found)
            if response.status == 200:
                assert is_answer(document), told
            else:
                assert 400 <= response.status < 500, told
                assert list(document) == ["error"], told
                assert isinstance(document["error"], str), told
    finally:
        connection.close()


def is_oip_answer(document: Any) -> bool:
    """Whether a 200's document is the Open Inference Protocol's."""
    return bool(document["model_name"] == "fashion_mnist" and document["outputs"])


def is_v1_answer(document: Any) -> bool:
    """Whether it is v1's."""
    return list(document) == ["predictions"] and bool(document["predictions"])


oip_requests = batches(documents(OIP_JSON, OIP_PATHS) | with_tensors())
v1_requests = batches(documents(V1, V1_PATHS))
