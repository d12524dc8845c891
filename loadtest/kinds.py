"""The kinds of requests: how images are put into one by each protocol, and how labels are read from its answer.

A kind is named as in `raw`, or, with several images in a request, `raw x 64`.
"""

import base64
import gzip
import io
import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.encoding import encode_image
from fashion_mnist.errors import UsageError
from fashion_mnist.task import FASHION_MNIST, Task

Pixels: TypeAlias = NDArray[np.uint8]

PREDICTIONS: Final = "/predictions/"
GRPC: Final = "/inference.GRPCInferenceService/ModelInfer"

_OCTET_STREAM: Final = "application/octet-stream"
_JSON: Final = "application/json"
_BOUNDARY: Final = "fashion-mnist-images"


@dataclass(frozen=True)
class Sent:
    """A request, ready to be sent; over gRPC the body is the message."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Writer: TypeAlias = Callable[[Task, Pixels], Sent]
Reader: TypeAlias = Callable[[Task, bytes], list[str]]
"""The labels in an answer's body. Raises ValueError, KeyError, TypeError or IndexError where they are not there."""


@dataclass(frozen=True)
class Kind:
    """How requests are written and answers read, for a task."""

    name: str
    images: int
    writer: Writer
    reader: Reader
    task: Task = field(default=FASHION_MNIST, compare=False)
    """Found out when requests are written: a scenario names kinds for any task."""

    def write(self, images: Pixels) -> Sent:
        """A request that holds images, uint8 [images, channels, height, width]."""
        return self.writer(self.task, images)

    def read(self, answer: bytes) -> list[str]:
        """The labels in an answer's body. Raises ValueError, KeyError, TypeError or IndexError without them."""
        return self.reader(self.task, answer)

    @property
    def grpc(self) -> bool:
        """Whether it is sent over gRPC."""
        return self.name.startswith("grpc")


def find_kind(name: str) -> Kind:
    """The kind of this name. Raises UsageError."""
    found = re.fullmatch(r"(\S+?)(?: x (\d{1,6}))?", name)
    if found is None or found[1] not in _KINDS:
        raise UsageError(
            f"no kind of request {name!r}: there are {', '.join(_KINDS)}, and with several images `raw x 64`"
        )
    images = int(found[2] or 1)
    if images < 1 or (images > 1 and found[1] in SINGLE):
        raise UsageError(f"{name!r}: a {found[1]} holds one image")
    write, read = _KINDS[found[1]]
    return Kind(name, images, write, read)


def native(task: Task) -> str:
    """Our own protocol's path."""
    return PREDICTIONS + task.name


def _infer(task: Task) -> str:
    return f"/v2/models/{task.name}/infer"


def _v1_path(task: Task) -> str:
    return f"/v1/models/{task.name}:predict"


# Our own protocol


def _file(format: str, media_type: str) -> Writer:
    return lambda task, images: Sent(native(task), encode_image(images[0], format), {"Content-Type": media_type})


def _raw(task: Task, images: Pixels) -> Sent:
    return Sent(native(task), images.tobytes(), {"Content-Type": _OCTET_STREAM})


def _binary(task: Task, images: Pixels) -> Sent:
    return Sent(native(task), images.tobytes(), {"Content-Type": _OCTET_STREAM, "Accept": _OCTET_STREAM})


def _npy(task: Task, images: Pixels) -> Sent:
    buffer = io.BytesIO()
    np.save(buffer, images)
    return Sent(native(task), buffer.getvalue(), {"Content-Type": _OCTET_STREAM})


def _idx(task: Task, images: Pixels) -> Sent:
    return Sent(
        native(task), struct.pack(">5I", 0x00000804, *images.shape) + images.tobytes(), {"Content-Type": _OCTET_STREAM}
    )


def _idx_gz(task: Task, images: Pixels) -> Sent:
    return Sent(native(task), gzip.compress(_idx(task, images).body, mtime=0), {"Content-Type": "application/gzip"})


def _json(task: Task, images: Pixels) -> Sent:
    return _json_sent(native(task), {"instances": images.tolist()})


def _base64(task: Task, images: Pixels) -> Sent:
    return _json_sent(native(task), _b64(images))


def _multipart(task: Task, images: Pixels) -> Sent:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\n\r\n'.encode()
    body = b"".join(head + encode_image(image) + b"\r\n" for image in images) + f"--{_BOUNDARY}--\r\n".encode()
    return Sent(native(task), body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})


def _native_labels(task: Task, answer: bytes) -> list[str]:
    return [prediction["label"] for prediction in json.loads(answer)["predictions"]]


def _binary_labels(task: Task, answer: bytes) -> list[str]:
    rows = np.frombuffer(answer, "<f4").reshape(-1, len(task.classes))
    return [task.classes[index] for index in rows.argmax(axis=1)]


# TensorFlow Serving's and KServe's first


def _v1(task: Task, images: Pixels) -> Sent:
    return _json_sent(_v1_path(task), {"instances": images.tolist()})


def _v1_base64(task: Task, images: Pixels) -> Sent:
    return _json_sent(_v1_path(task), _b64(images))


# The Open Inference Protocol


def _tensor(images: Pixels, data: "list[Any] | None" = None) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    return {**tensor, "data": data} if data is not None else tensor


def _oip(task: Task, images: Pixels) -> Sent:
    return _json_sent(
        _infer(task), {"inputs": [_tensor(images, images.ravel().tolist())], "outputs": [{"name": "label"}]}
    )


def _oip_bytes(task: Task, images: Pixels) -> Sent:
    tensor = {
        "name": "images",
        "datatype": "BYTES",
        "shape": [len(images)],
        "data": [_b64_png(image) for image in images],
    }
    return _json_sent(_infer(task), {"inputs": [tensor], "outputs": [{"name": "label"}]})


def _oip_binary(task: Task, images: Pixels) -> Sent:
    tensor = {**_tensor(images), "parameters": {"binary_data_size": images.nbytes}}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "label"}]}).encode()
    headers = {"Content-Type": _OCTET_STREAM, "Inference-Header-Content-Length": str(len(head))}
    return Sent(_infer(task), head + images.tobytes(), headers)


def _oip_labels(task: Task, answer: bytes) -> list[str]:
    (output,) = json.loads(answer)["outputs"]
    labels: list[str] = output["data"]
    return labels


def _grpc(task: Task, images: Pixels) -> Sent:
    return _grpc_sent(task, [_tensor(images)], images.tobytes())


def _grpc_bytes(task: Task, images: Pixels) -> Sent:
    files = [encode_image(image) for image in images]
    raw = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    return _grpc_sent(task, [{"name": "images", "datatype": "BYTES", "shape": [len(images)]}], raw)


def _grpc_sent(task: Task, inputs: Sequence[Mapping[str, Any]], raw: bytes) -> Sent:
    from gateway.protocols import inference_pb2  # here, because it is needed for gRPC alone

    request = inference_pb2.ModelInferRequest(
        model_name=task.name, inputs=inputs, outputs=[{"name": "label"}], raw_input_contents=[raw]
    )
    return Sent(GRPC, request.SerializeToString())


def _grpc_labels(task: Task, answer: bytes) -> list[str]:
    from google.protobuf.message import DecodeError

    from gateway.protocols import inference_pb2

    try:
        (raw,) = inference_pb2.ModelInferResponse.FromString(answer).raw_output_contents
    except DecodeError as error:
        raise ValueError(str(error)) from None
    labels, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        labels.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return labels


def _b64_png(image: Pixels) -> str:
    return base64.b64encode(encode_image(image)).decode()


def _b64(images: Pixels) -> dict[str, Any]:
    return {"instances": [{"b64": _b64_png(image)} for image in images]}


def _json_sent(path: str, document: Any) -> Sent:
    return Sent(path, json.dumps(document).encode(), {"Content-Type": _JSON})


_KINDS: Final[Mapping[str, tuple[Writer, Reader]]] = {
    "png": (_file("PNG", "image/png"), _native_labels),
    "jpeg": (_file("JPEG", "image/jpeg"), _native_labels),
    "webp": (_file("WEBP", "image/webp"), _native_labels),
    "bmp": (_file("BMP", "image/bmp"), _native_labels),
    "raw": (_raw, _native_labels),
    "binary": (_binary, _binary_labels),
    "npy": (_npy, _native_labels),
    "idx": (_idx, _native_labels),
    "idx.gz": (_idx_gz, _native_labels),
    "json": (_json, _native_labels),
    "base64": (_base64, _native_labels),
    "multipart": (_multipart, _native_labels),
    "v1": (_v1, _native_labels),
    "v1-base64": (_v1_base64, _native_labels),
    "oip": (_oip, _oip_labels),
    "oip-bytes": (_oip_bytes, _oip_labels),
    "oip-binary": (_oip_binary, _oip_labels),
    "grpc": (_grpc, _grpc_labels),
    "grpc-bytes": (_grpc_bytes, _grpc_labels),
}
SINGLE: Final = frozenset({"png", "jpeg", "webp", "bmp"})
"""The kinds that hold one image."""
