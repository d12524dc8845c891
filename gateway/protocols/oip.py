"""The Open Inference Protocol, version 2: what its REST and gRPC forms share.

One input, `images`: uint8 pixels, or files as bytes. The outputs are `OUTPUTS`.
https://github.com/kserve/open-inference-protocol; binary tensors as in Triton's extension,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import CLASSES, GEOMETRY, IMAGE_BYTES
from fashion_mnist.decoding.bodies import decode_image, decode_pixels
from fashion_mnist.decoding.decoded import Bytes, Decoded, join
from fashion_mnist.decoding.limits import Budget
from fashion_mnist.errors import BadTensor, NotFound
from fashion_mnist.ood import unknown_scores
from fashion_mnist.predictions import Probabilities
from fashion_mnist.preparation import Mode, parse_mode
from gateway.protocols.reading import refuse_bad
from gateway.types.exchange import MODEL

INPUT: Final = "images"
PLATFORM: Final = "onnxruntime_onnx"
SERVER: Final = "fashion-mnist-serving"
EXTENSIONS: Final = ("binary_tensor_data",)

_INPUT_FORMS: Final = (
    f"send {INPUT} as UINT8 of shape [n, 1, 28, 28] or [n, 28, 28], or as BYTES of shape [n] with an image file in each"
)


class Tensor(NamedTuple):
    """A tensor's metadata; -1 stands for the number of images."""

    name: str
    datatype: str
    shape: list[int]


INPUTS: Final = (Tensor(INPUT, "UINT8", [-1, *GEOMETRY]),)
OUTPUTS: Final = (
    Tensor("probabilities", "FP32", [-1, len(CLASSES)]),
    Tensor("index", "INT64", [-1]),
    Tensor("label", "BYTES", [-1]),
    Tensor("unknown", "BOOL", [-1]),
    Tensor("unknown_score", "FP32", [-1]),
)
_OUTPUTS: Final = {output.name: output for output in OUTPUTS}

_TAILS: Final[dict[str, list[list[int]]]] = {"UINT8": [[*GEOMETRY], [*GEOMETRY[1:]]], "BYTES": [[], [1]]}
"""By the type of the input: the dimensions that may follow the number of images in its shape."""

_LENGTH: Final = struct.Struct("<I")
_LABELS: Final = [name.encode() for name in CLASSES]
_LABEL_ELEMENTS: Final = {name: _LENGTH.pack(len(name)) + name for name in _LABELS}

Values: TypeAlias = NDArray[Any] | list[bytes]


def check_model(name: str, version: str, versions: Collection[str]) -> None:
    """Raise NotFound if a request names another model or an unknown version."""
    if name != MODEL:
        raise NotFound(f"unknown model {name[:40]!r}: the only one is {MODEL!r}")
    if version and version not in versions:
        raise NotFound(f"unknown version {version[:40]!r} of {MODEL}: use one of {', '.join(versions)}, or none")


def count_images(name: str, datatype: str, shape: list[Any], budget: Budget) -> int:
    """The number of images of an input, by its shape. Raises BadTensor, and TooManyImages."""
    if name != INPUT:
        raise BadTensor(f"unknown input {name[:40]!r}: {_INPUT_FORMS}")
    if datatype not in _TAILS:
        raise BadTensor(f"{INPUT} of type {datatype[:20]!r}: {_INPUT_FORMS}")
    if set(map(type, shape)) != {int} or shape[1:] not in _TAILS[datatype] or shape[0] < 1:
        raise BadTensor(f"{INPUT} of type {datatype} and shape {_shown(shape)}: {_INPUT_FORMS}")
    count: int = shape[0]
    budget.check_images(count)
    return count


def _shown(shape: list[Any]) -> str:
    """A shape for an error message, of bounded length."""
    if all(type(length) is int and abs(length) < 10**12 for length in shape[:8]):
        return str(shape[:8])
    return "that is not a list of integers"


def from_pixels(pixels: Bytes, count: int, budget: Budget) -> Decoded:
    """The images of a UINT8 tensor, one byte per pixel. Raises BadTensor."""
    if len(pixels) != count * IMAGE_BYTES:
        raise BadTensor(
            f"{INPUT} has {len(pixels):,} bytes of data, but its shape requires {count * IMAGE_BYTES:,}: correct one"
        )
    return decode_pixels(pixels, budget)


def from_files(files: Sequence[Bytes], count: int, budget: Budget) -> Decoded:
    """The images of a BYTES tensor, each a file. Raises BadTensor, and the first invalid image's own error."""
    if len(files) != count:
        raise BadTensor(f"{INPUT} has {len(files):,} elements, but its shape requires {count:,}: correct one")
    return refuse_bad(join(files, lambda file: decode_image(file, budget), budget))


def split(content: bytes, count: int) -> list[bytes]:
    """The elements of a BYTES tensor, each preceded by its length, 4 bytes, little-endian. Raises BadTensor."""
    elements: list[bytes] = []
    position = 0
    while position < len(content) and len(elements) < count:
        start = position + _LENGTH.size
        if start > len(content):
            break
        position = start + _LENGTH.unpack_from(content, position)[0]
        elements.append(content[start:position])
    if position != len(content) or len(elements) != count:
        raise BadTensor(
            f"the data of {INPUT} do not consist of {count:,} elements: send each as its length, 4 bytes, "
            "little-endian, followed by its bytes"
        )
    return elements


def check_outputs(names: Iterable[str]) -> tuple[str, ...]:
    """The requested outputs; all of them if none is named. Raises BadTensor."""
    requested = tuple(names) or tuple(_OUTPUTS)
    for name in requested:
        if name not in _OUTPUTS:
            raise BadTensor(f"unknown output {name[:40]!r}: use {', '.join(_OUTPUTS)}")
    if len(set(requested)) < len(requested):
        raise BadTensor("an output is requested twice: request it once")
    return requested


def output(name: str) -> Tensor:
    """The metadata of an output that `check_outputs` returned."""
    return _OUTPUTS[name]


def values(
    names: Sequence[str], probabilities: Probabilities, decoded: Decoded, unknown_threshold: float
) -> list[Values]:
    """Outputs in the order of their names: numbers as NumPy arrays of the output's shape, labels as bytes.

    `probabilities` are those of `decoded`, whose images are all valid.
    """
    index: list[int] = []
    scores: list[float] = []
    found: list[Values] = []
    for name in names:
        if name == "probabilities":
            found.append(probabilities)
        elif name in ("index", "label"):
            index = index or probabilities.argmax(axis=1).tolist()
            found.append(np.array(index, "<i8") if name == "index" else [_LABELS[place] for place in index])
        else:
            scores = scores or unknown_scores(probabilities)
            if name == "unknown_score":
                found.append(np.array(scores, "<f4"))
            else:
                found.append(
                    np.array(
                        [score > unknown_threshold or decoded.is_empty(place) for place, score in enumerate(scores)]
                    )
                )
    return found


def preparation(parameter: Any, default: Mode) -> Mode:
    """How to prepare images, by the request's parameter `prepare`, None if absent. Raises BadParameter."""
    if parameter is None:
        return default
    return parse_mode(parameter if isinstance(parameter, str) else "not a string")


def raw_bytes(values: Values) -> bytes:
    """An output as a binary tensor: little-endian, one byte per BOOL, each label preceded by its length."""
    if isinstance(values, list):
        return b"".join([_LABEL_ELEMENTS[label] for label in values])
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
