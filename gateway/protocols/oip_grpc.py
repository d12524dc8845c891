"""The Open Inference Protocol over gRPC."""

import functools
from collections.abc import Callable
from math import inf
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.json_bodies import pixel_bytes
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.errors import BadTensor, NotFound
from fashion_mnist.predictions import Answer
from fashion_mnist.preparation import Mode
from fashion_mnist.task import Task
from gateway.protocols import inference_pb2 as pb
from gateway.protocols import oip, wire
from gateway.types.exchange import Exchange
from gateway.types.job import Job
from gateway.types.page import Offered

SERVICE: Final = "inference.GRPCInferenceService"
INFER: Final = f"/{SERVICE}/ModelInfer".encode()
HEALTH: Final = frozenset((f"/{SERVICE}/ServerLive".encode(), f"/{SERVICE}/ServerReady".encode()))
"""The calls of load balancers."""
_CONTENT_TYPE: Final = "application/grpc"
_VERSION: Final = (pb.ModelInferRequest.MODEL_VERSION_FIELD_NUMBER << 3 | 2).to_bytes(1, "big")
_RAW_OUTPUT: Final = (pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2).to_bytes(1, "big")
"""The tag of each raw output."""

_CONTENTS: Final = {
    "FP32": "fp32_contents",
    "INT64": "int64_contents",
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
}
"""The field of a tensor's elements if they are not raw, by its type."""


class Form(NamedTuple):
    """The content of the answer."""

    id: str
    outputs: tuple[str, ...]
    raw: bool
    """Whether tensors are raw bytes, as those of the request, or typed lists."""

    @property
    def binary(self) -> bool:
        return self.raw


class OipGrpc:
    """See `gateway.types.exchange.Codec`. One invalid image refuses the request: tensors cannot contain errors."""

    def __init__(self, task: Task, version: str, unknown_threshold: float, prepare: Mode) -> None:
        self._task = task
        self._unknown_threshold = unknown_threshold
        self._prepare = prepare
        self._version = version

    def is_plain(self, request: Exchange) -> bool:
        # Lists of numbers and files take time.
        return wire.outline(request.body).plain

    def read(self, request: Exchange, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        limits.check_body(len(request.body))
        if len(request.body) > wire.BESIDE_TENSORS:
            wire.check_contents(request.body, wire.outline(request.body).contents, limits.max_images)
        message = _parse(pb.ModelInferRequest, request.body)
        oip.check_model(self._task, message.model_name, message.model_version, [self._version])
        outputs = oip.check_outputs([output.name for output in message.outputs])
        inputs = message.inputs
        if len(inputs) != 1:
            raise BadTensor(f"the request has {len(inputs)} inputs: send one, {oip.INPUT}")
        parameter = message.parameters["prepare"].string_param if "prepare" in message.parameters else None
        budget = Budget(limits, self._task, allowance, oip.preparation(parameter, self._prepare))
        tensor = inputs[0]
        count = oip.tensors(self._task).count_images(tensor.name, tensor.datatype, list(tensor.shape), budget)
        raw = message.raw_input_contents
        if raw:
            if len(raw) != 1 or tensor.HasField("contents"):
                raise BadTensor("send the contents of the input once: in raw_input_contents or in its own contents")
            if tensor.datatype == "UINT8":
                decoded = oip.from_pixels(raw[0], count, budget)
            else:
                decoded = oip.from_files(oip.split(raw[0], count), count, budget)
        elif tensor.datatype == "UINT8":
            decoded = oip.from_pixels(pixel_bytes(list(tensor.contents.uint_contents)), count, budget)
        else:
            decoded = oip.from_files(list(tensor.contents.bytes_contents), count, budget)
        return Form(message.id, outputs, bool(raw)), decoded

    def write(self, job: Job, decoded: Decoded, form: Form) -> Answer:
        probabilities = job.probabilities
        count = len(probabilities)
        found = oip.values(form.outputs, probabilities, decoded, self._unknown_threshold, self._task)
        parts = [_head(self._task, self._version, form.outputs, count) if form.raw else b""]
        if form.raw:
            # Serialised fields of a message may be concatenated in any order.
            for values in found:
                content = oip.raw_bytes(values)
                parts += (_RAW_OUTPUT, _varint(len(content)), content)
        else:
            response = _response(self._task, self._version, form.outputs, count)
            for output, values in zip(response.outputs, found, strict=True):
                place = getattr(output.contents, _CONTENTS[output.datatype])
                place.extend(values if isinstance(values, list) else values.ravel().tolist())
            parts.append(response.SerializeToString())
        if form.id:
            parts.append(pb.ModelInferResponse(id=form.id).SerializeToString())
        return Answer(200, _CONTENT_TYPE, b"".join(parts))


@functools.lru_cache(maxsize=16)
def _named(task: Task) -> bytes:
    """How nearly every request begins."""
    return bytes(pb.ModelInferRequest(model_name=task.name).SerializeToString())


def version_of(task: Task, message: bytes) -> str:
    """The version that a ModelInferRequest names; "" for none. Raises BadTensor if it cannot be parsed.

    Clients write fields in the order of their numbers: the version's, if there is one, follows the model's name.
    """
    named = _named(task)
    if message.startswith(named) and not message.startswith(_VERSION, len(named)):
        return ""
    if len(message) > wire.BESIDE_TENSORS:
        wire.outline(message)
    version = b""
    for field in wire.fields(message, 0, len(message)):
        if field.number == pb.ModelInferRequest.MODEL_VERSION_FIELD_NUMBER:
            version = message[field.start : field.stop]
    return version.decode("utf-8", "replace")


def answer_metadata(task: Task, path: bytes, message: bytes, offered: Offered) -> Answer | None:
    """The answer to a call for health or metadata; None for an unknown call. Raises FashionMNISTError."""
    page = _PAGES.get(path)
    if page is not None and len(message) > wire.BESIDE_TENSORS:
        raise BadTensor(f"the message has {len(message):,} bytes: send one shorter than {wire.BESIDE_TENSORS:,}")
    return None if page is None else Answer(200, _CONTENT_TYPE, page(task, message, offered).SerializeToString())


def _server_live(task: Task, message: bytes, offered: Offered) -> pb.ServerLiveResponse:
    _parse(pb.ServerLiveRequest, message)
    return pb.ServerLiveResponse(live=True)


def _server_ready(task: Task, message: bytes, offered: Offered) -> pb.ServerReadyResponse:
    _parse(pb.ServerReadyRequest, message)
    return pb.ServerReadyResponse(ready=offered.ready[offered.default])


def _model_ready(task: Task, message: bytes, offered: Offered) -> pb.ModelReadyResponse:
    request = _parse(pb.ModelReadyRequest, message)
    try:
        oip.check_model(task, request.name, request.version, offered.ready)
    except NotFound:
        # Clients may ask for the readiness of unknown models.
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=offered.ready[request.version or offered.default])


def _server_metadata(task: Task, message: bytes, offered: Offered) -> pb.ServerMetadataResponse:
    _parse(pb.ServerMetadataRequest, message)
    return pb.ServerMetadataResponse(name=oip.SERVER, version=offered.default, extensions=oip.EXTENSIONS)


def _model_metadata(task: Task, message: bytes, offered: Offered) -> pb.ModelMetadataResponse:
    request = _parse(pb.ModelMetadataRequest, message)
    oip.check_model(task, request.name, request.version, offered.ready)
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=task.name,
        versions=list(offered.ready),
        platform=oip.PLATFORM,
        inputs=[tensor(**described._asdict()) for described in oip.tensors(task).inputs],
        outputs=[tensor(**described._asdict()) for described in oip.tensors(task).outputs],
    )


_PAGES: Final[dict[bytes, Callable[[Task, bytes, Offered], Any]]] = {
    f"/{SERVICE}/{name}".encode(): page
    for name, page in {
        "ServerLive": _server_live,
        "ServerReady": _server_ready,
        "ModelReady": _model_ready,
        "ServerMetadata": _server_metadata,
        "ModelMetadata": _model_metadata,
    }.items()
}


def _parse(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise BadTensor(f"the message is no {kind.__name__}: use gateway/protocols/inference.proto") from None


def _response(task: Task, version: str, outputs: tuple[str, ...], count: int) -> pb.ModelInferResponse:
    """The answer without its contents."""
    response = pb.ModelInferResponse(model_name=task.name, model_version=version)
    for name in outputs:
        tensor = oip.tensors(task).output(name)
        response.outputs.add(name=name, datatype=tensor.datatype, shape=[count, *tensor.shape[1:]])
    return response


@functools.lru_cache(256)
def _head(task: Task, version: str, outputs: tuple[str, ...], count: int) -> bytes:
    head: bytes = _response(task, version, outputs, count).SerializeToString()
    return head


def _varint(value: int) -> bytes:
    """A number in protobuf's encoding: seven bits per byte, the lowest first."""
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
