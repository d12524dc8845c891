"""What a peer is sent for each image, and how its answer is read."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from benchmarks.client import read_prediction
from benchmarks.photographs import JPEG, MEGAPIXELS_12, photograph
from fashion_mnist.classes import GEOMETRY, IMAGE_BYTES
from fashion_mnist.encoding import encode_image

_OCTET_STREAM: Final = "application/octet-stream"
_JSON: Final = "application/json"
_BOUNDARY: Final = "fashion-mnist"
_OUTPUT: Final = {"name": "probabilities", "parameters": {"binary_data": True}}


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of body: its name in the table, its headers, and how it is made of an image, uint8 [1, 28, 28].

    `read` gives the class index that an answer names.
    """

    name: str
    content_type: str
    write: Callable[[np.ndarray], bytes]
    read: Callable[[bytes], int]
    headers: Mapping[str, str] = field(default_factory=dict)
    of_one_image: bool = False
    """Whether all bodies are the same."""


def _base64_png(image: np.ndarray) -> str:
    return base64.b64encode(encode_image(image)).decode()


def _form(image: np.ndarray) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n'
    return f"{head}Content-Type: image/png\r\n\r\n".encode() + encode_image(image) + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _tensor(image: np.ndarray) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": [1, *image.shape]}


def _oip_numbers(image: np.ndarray) -> bytes:
    return json.dumps({"inputs": [{**_tensor(image), "data": image.ravel().tolist()}]}).encode()


def _oip_base64(image: np.ndarray) -> bytes:
    content = base64.b64encode(image.tobytes()).decode()
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}}
    return json.dumps({"inputs": [{**tensor, "data": [content]}]}).encode()


def _oip_head(image: np.ndarray) -> bytes:
    tensor = {**_tensor(image), "parameters": {"binary_data_size": IMAGE_BYTES}}
    return json.dumps({"inputs": [tensor], "outputs": [_OUTPUT]}).encode()


def _numbers(answer: bytes) -> int:
    return int(np.argmax(json.loads(answer)["outputs"][0]["data"]))


def _floats(answer: bytes) -> int:
    """The one output's values are the last bytes."""
    return int(np.frombuffer(answer[-40:], "<f4").argmax())


_HEAD: Final = _oip_head(np.zeros(GEOMETRY, np.uint8))

PNG: Final = Kind("PNG", "image/png", encode_image, read_prediction)
RAW: Final = Kind("raw bytes", _OCTET_STREAM, lambda image: image.tobytes(), read_prediction)
FORM: Final = Kind("PNG in a form", f"multipart/form-data; boundary={_BOUNDARY}", _form, read_prediction)
BASE64: Final = Kind(
    "JSON, PNG in base64", _JSON, lambda image: json.dumps({"image": _base64_png(image)}).encode(), read_prediction
)
INSTANCES: Final = Kind(
    "JSON (v1), PNG in base64",
    _JSON,
    lambda image: json.dumps({"instances": [{"image": {"b64": _base64_png(image)}}]}).encode(),
    read_prediction,
)
PHOTOGRAPH: Final = Kind(
    "JPEG of 12 megapixels",
    JPEG,
    lambda image: photograph(MEGAPIXELS_12, quality=85),
    read_prediction,
    of_one_image=True,
)
"""Servers that only resize it do not find the garment: its label is not compared."""

OIP_NUMBERS: Final = Kind("OIP, JSON, numbers", _JSON, _oip_numbers, _numbers)
OIP_BASE64: Final = Kind("OIP, JSON, base64", _JSON, _oip_base64, _numbers)
OIP_BINARY: Final = Kind(
    "OIP, binary",
    _OCTET_STREAM,
    lambda image: _HEAD + image.tobytes(),
    _floats,
    {"Inference-Header-Content-Length": str(len(_HEAD))},
)
