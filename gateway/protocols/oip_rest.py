"""The Open Inference Protocol over HTTP: JSON, or JSON followed by binary tensors."""

from collections.abc import Mapping
from math import inf
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.json_bodies import decode_base64, parse, pixel_bytes
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.errors import BadJSON, BadTensor
from fashion_mnist.predictions import JSON, OCTET_STREAM, Answer
from fashion_mnist.preparation import Mode
from fashion_mnist.task import Task
from gateway.protocols import oip
from gateway.protocols.reading import QUICK_BYTES, check_encoding, preparation
from gateway.types.job import Job
from gateway.types.page import Offered, Page, page
from gateway.types.request import Request

SHAPE: Final = '{"inputs": [{"name": "images", "shape": [...], "datatype": "UINT8", "data": [...]}]}'

_MAX_NESTING: Final = 8


class Output(NamedTuple):
    """A requested output, and whether to send it as bytes after the JSON."""

    name: str
    binary: bool


class Form(NamedTuple):
    """The content of the answer."""

    id: str | None
    outputs: tuple[Output, ...]

    @property
    def binary(self) -> bool:
        return all(output.binary for output in self.outputs)


INFER: Final = b"/infer"


def path(task: Task) -> bytes:
    """The path of the default version."""
    return f"/v2/models/{task.name}".encode()


def path_of(task: Task, version: str) -> bytes:
    """The path of a version."""
    return b"%b/versions/%b" % (path(task), version.encode())


def pages(task: Task, offered: Offered) -> dict[bytes, Page]:
    """The answers to GET."""
    tensors = oip.tensors(task)
    server = {"name": oip.SERVER, "version": offered.default, "extensions": oip.EXTENSIONS}
    model = {
        "name": task.name,
        "versions": list(offered.ready),
        "platform": oip.PLATFORM,
        "inputs": [tensor._asdict() for tensor in tensors.inputs],
        "outputs": [tensor._asdict() for tensor in tensors.outputs],
    }
    found = {path(task): "", **{path_of(task, version): version for version in offered.ready}}
    ready = ({"name": task.name, "ready": True}, {"name": task.name, "ready": False})
    return {
        b"/v2": page(server),
        b"/v2/": page(server),
        b"/v2/health/live": page({"live": True}),
        b"/v2/health/ready": page({"ready": True}, {"ready": False}),
        **dict.fromkeys(found, page(model)),
        **{where + b"/ready": page(*ready, version) for where, version in found.items()},
    }


class OipRest:
    """See `gateway.types.exchange.Codec`. One invalid image refuses the request: tensors cannot contain errors."""

    def __init__(self, task: Task, version: str, unknown_threshold: float, prepare: Mode) -> None:
        self._task = task
        self._unknown_threshold = unknown_threshold
        self._prepare = prepare
        self._head = {"model_name": task.name, "model_version": version}

    def is_plain(self, request: Request) -> bool:
        length = request.head.inference_length
        if not (length.isdecimal() and len(length) < 7 and int(length) <= QUICK_BYTES):
            return False
        head = request.body[: int(length)]
        # A request that escapes its type is read in a thread.
        return b"UINT8" in head and b"BYTES" not in head and b"\\" not in head

    def read(self, request: Request, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        limits.check_body(len(request.body))
        check_encoding(request.head.content_encoding)
        document, binary = _document(request)
        if not isinstance(document, dict):
            raise BadJSON(f"the body is no JSON object: send {SHAPE}")
        # First what is cheap to check.
        form = _form(document)
        inputs = _list(document, "inputs")
        if len(inputs) != 1:
            raise BadTensor(f"the request has {len(inputs)} inputs: send one, {SHAPE}")
        prepare = oip.preparation(_parameters(document).get("prepare"), preparation(request.head, self._prepare))
        budget = Budget(limits, self._task, allowance, prepare)
        return form, _images(inputs[0], binary, budget, oip.tensors(self._task))

    def write(self, job: Job, decoded: Decoded, form: Form) -> Answer:
        probabilities = job.probabilities
        outputs: list[dict[str, Any]] = []
        binary: list[bytes] = []
        names = [output.name for output in form.outputs]
        found = oip.values(names, probabilities, decoded, self._unknown_threshold, self._task)
        tensors = oip.tensors(self._task)
        for (name, as_binary), values in zip(form.outputs, found, strict=True):
            tensor = tensors.output(name)
            written: dict[str, Any] = {
                "name": name,
                "datatype": tensor.datatype,
                "shape": [len(probabilities), *tensor.shape[1:]],
            }
            if as_binary:
                binary.append(oip.raw_bytes(values))
                written["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                written["data"] = _json_values(values)
            outputs.append(written)
        answer = {**self._head, "outputs": outputs} | ({} if form.id is None else {"id": form.id})
        body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        if not binary:
            return Answer(200, JSON, body)
        return Answer(
            200, OCTET_STREAM, b"".join([body, *binary]), b"Inference-Header-Content-Length: %d\r\n" % len(body)
        )


def _json_values(values: oip.Values) -> Any:
    if isinstance(values, list):
        return [label.decode() for label in values]
    return np.ascontiguousarray(values).ravel()


def _document(request: Request) -> tuple[Any, bytes | None]:
    """The JSON of a request, and the bytes after it; None without Inference-Header-Content-Length."""
    body, length = request.body, request.head.inference_length
    binary: bytes | None = None
    if length:
        if not (length.isascii() and length.isdecimal() and len(length) < 12 and 0 < int(length) <= len(body)):
            raise BadTensor(
                f"Inference-Header-Content-Length is {length[:20]!r}, but the body has {len(body):,} bytes: "
                "send the length of the JSON before the tensor"
            )
        body, binary = body[: int(length)], body[int(length) :]
    return parse(body, SHAPE), binary


def _form(document: Mapping[str, Any]) -> Form:
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise BadJSON('"id" must be a string')
    all_binary = _flag(_parameters(document), "binary_data_output", default=False)
    binary: dict[str, bool] = {}
    names: list[str] = []
    for output in _list(document, "outputs") if "outputs" in document else []:
        names.append(_text(output, "name"))
        parameters = _parameters(output)
        if "classification" in parameters:
            raise BadTensor("the classification extension is not supported: request index and label")
        binary[names[-1]] = _flag(parameters, "binary_data", default=all_binary)
    return Form(request_id, tuple(Output(name, binary.get(name, all_binary)) for name in oip.check_outputs(names)))


def _images(tensor: Any, binary: bytes | None, budget: Budget, tensors: oip.Tensors) -> Decoded:
    """The images of an input; `binary` are the bytes after the JSON."""
    name, datatype = _text(tensor, "name"), _text(tensor, "datatype")
    count = tensors.count_images(name, datatype, _list(tensor, "shape"), budget)
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        if "data" in tensor:
            raise BadTensor(f'{name} has both "data" and "binary_data_size": send only one')
        if type(size) is not int or size != len(binary or b""):
            shown = size if type(size) is int else "not an integer"
            raise BadTensor(
                f"binary_data_size is {shown}, but {len(binary or b''):,} bytes follow the JSON, whose length is "
                "Inference-Header-Content-Length: correct one"
            )
        content = binary or b""
        if datatype == "UINT8":
            return oip.from_pixels(content, count, budget)
        return oip.from_files(oip.split(content, count), count, budget)
    if binary:
        raise BadTensor(f'{len(binary):,} bytes follow the JSON, but no tensor has a "binary_data_size": set it')
    data = _flat(_list(tensor, "data"))
    if datatype == "UINT8":
        return oip.from_pixels(pixel_bytes(data), count, budget)
    if not all(isinstance(text, str) for text in data):
        raise BadTensor(f"{name} of type BYTES has data that are not strings: send each file in base64")
    return oip.from_files([decode_base64(text) for text in data], count, budget)


def _flat(data: list[Any]) -> list[Any]:
    """The elements of a tensor in row-major order, which may be nested by its shape or flat."""
    for _ in range(_MAX_NESTING):
        if not data or not all(isinstance(row, list) for row in data):
            return data
        data = [value for row in data for value in row]
    raise BadTensor("the data are nested too deeply: nest them by the shape, or not at all")


def _text(tensor: Any, key: str) -> str:
    found = tensor.get(key) if isinstance(tensor, dict) else None
    if not isinstance(found, str):
        raise BadJSON(f'"{key}" of a tensor is missing or not a string: send {SHAPE}')
    return found


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list):
        raise BadJSON(f'"{key}" is missing or not a list: send {SHAPE}')
    return found


def _parameters(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("parameters")
    if not isinstance(found, dict | None):
        raise BadJSON('"parameters" must be an object')
    return found or {}


def _flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    found = parameters.get(key, default)
    if not isinstance(found, bool):
        raise BadJSON(f'"{key}" must be true or false')
    return found
