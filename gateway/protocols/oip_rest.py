"""The Open Inference Protocol over HTTP: JSON, or JSON with binary tensors behind it."""

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

_MOST_NESTING: Final = 8


class Output(NamedTuple):
    """An output that is asked for, and whether as bytes behind the JSON."""

    name: str
    binary: bool


class Form(NamedTuple):
    """What the answer carries."""

    id: str | None
    outputs: tuple[Output, ...]

    @property
    def binary(self) -> bool:
        return all(output.binary for output in self.outputs)


INFER: Final = b"/infer"


def path(task: Task) -> bytes:
    """Where the default version is."""
    return f"/v2/models/{task.name}".encode()


def path_of(task: Task, version: str) -> bytes:
    """Where a version is."""
    return b"%b/versions/%b" % (path(task), version.encode())


def pages(task: Task, offered: Offered) -> dict[bytes, Page]:
    """What is asked by GET."""
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
    """See `gateway.protocols.Codec`. One bad image refuses all: tensors have no room for an error."""

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
        # Whatever hides its type behind escapes is no slower for it, but in a thread.
        return b"UINT8" in head and b"BYTES" not in head and b"\\" not in head

    def read(self, request: Request, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        limits.check_body(len(request.body))
        check_encoding(request.head.content_encoding)
        document, binary = _document(request)
        if not isinstance(document, dict):
            raise BadJSON(f"the body is no JSON object: send {SHAPE}")
        # What the outputs are is quickly said: it comes before what takes time.
        form = _form(document)
        inputs = _list(document, "inputs")
        if len(inputs) != 1:
            raise BadTensor(f"{len(inputs)} inputs where one must be: send {SHAPE}")
        prepare = oip.preparation(_parameters(document).get("prepare"), preparation(request.head, self._prepare))
        budget = Budget(limits, self._task.geometry, allowance, prepare)
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
            said: dict[str, Any] = {
                "name": name,
                "datatype": tensor.datatype,
                "shape": [len(probabilities), *tensor.shape[1:]],
            }
            if as_binary:
                binary.append(oip.raw_bytes(values))
                said["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                said["data"] = _json_values(values)
            outputs.append(said)
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
    """The JSON of a request, and the bytes behind it where it says that there are some."""
    body, length = request.body, request.head.inference_length
    binary: bytes | None = None
    if length:
        if not (length.isascii() and length.isdecimal() and len(length) < 12 and 0 < int(length) <= len(body)):
            raise BadTensor(
                f"Inference-Header-Content-Length is {length[:20]!r} and the body has {len(body):,} bytes: "
                "it is the length of the JSON in front of the tensor"
            )
        body, binary = body[: int(length)], body[int(length) :]
    return parse(body, SHAPE), binary


def _form(document: Mapping[str, Any]) -> Form:
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise BadJSON('"id" must be a text')
    all_binary = _flag(_parameters(document), "binary_data_output", default=False)
    asked: dict[str, bool] = {}
    names: list[str] = []
    for wanted in _list(document, "outputs") if "outputs" in document else []:
        names.append(_text(wanted, "name"))
        parameters = _parameters(wanted)
        if "classification" in parameters:
            raise BadTensor("outputs as classifications are not given: ask for index and label")
        asked[names[-1]] = _flag(parameters, "binary_data", default=all_binary)
    return Form(request_id, tuple(Output(name, asked.get(name, all_binary)) for name in oip.check_outputs(names)))


def _images(said: Any, binary: bytes | None, budget: Budget, tensors: oip.Tensors) -> Decoded:
    """The images of an input; `binary` is what stands behind the JSON."""
    name, datatype = _text(said, "name"), _text(said, "datatype")
    count = tensors.count_images(name, datatype, _list(said, "shape"), budget)
    size = _parameters(said).get("binary_data_size")
    if size is not None:
        if "data" in said:
            raise BadTensor(f'{name} has "data" and "binary_data_size": send one')
        if type(size) is not int or size != len(binary or b""):
            said_size = size if type(size) is int else "no whole number"
            raise BadTensor(
                f"binary_data_size is {said_size} and {len(binary or b''):,} bytes stand behind the JSON, which "
                "Inference-Header-Content-Length ends: make them agree"
            )
        content = binary or b""
        if datatype == "UINT8":
            return oip.from_pixels(content, count, budget)
        return oip.from_files(oip.split(content, count), count, budget)
    if binary:
        raise BadTensor(f'{len(binary):,} bytes behind the JSON, and no "binary_data_size" for them')
    data = _flat(_list(said, "data"))
    if datatype == "UINT8":
        return oip.from_pixels(pixel_bytes(data), count, budget)
    if not all(isinstance(text, str) for text in data):
        raise BadTensor(f"{name} of type BYTES has data that are no texts: send each file in base64")
    return oip.from_files([decode_base64(text) for text in data], count, budget)


def _flat(data: list[Any]) -> list[Any]:
    """The elements of a tensor in row-major order, which may be nested in the way of its shape or not at all."""
    for _ in range(_MOST_NESTING):
        if not data or not all(isinstance(row, list) for row in data):
            return data
        data = [value for row in data for value in row]
    raise BadTensor("the data are nested deeper than any shape that there is")


def _text(said: Any, key: str) -> str:
    found = said.get(key) if isinstance(said, dict) else None
    if not isinstance(found, str):
        raise BadJSON(f'"{key}" of a tensor is missing or no text: send {SHAPE}')
    return found


def _list(said: Mapping[str, Any], key: str) -> list[Any]:
    found = said.get(key)
    if not isinstance(found, list):
        raise BadJSON(f'"{key}" is missing or no list: send {SHAPE}')
    return found


def _parameters(said: Mapping[str, Any]) -> Mapping[str, Any]:
    found = said.get("parameters")
    if not isinstance(found, dict | None):
        raise BadJSON('"parameters" must be an object')
    return found or {}


def _flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    found = parameters.get(key, default)
    if not isinstance(found, bool):
        raise BadJSON(f'"{key}" must be true or false')
    return found
