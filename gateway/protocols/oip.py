"""The Open Inference Protocol, version 2: what its REST and its gRPC form have in common.

One input, `images`: uint8 pixels, or files as bytes. The outputs: `OUTPUTS`.
https://github.com/kserve/open-inference-protocol; binary tensors as Triton's extension has them,
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
    """What the protocol says of a tensor; -1 is the number of images."""

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
"""The types of the input, and of each what may stand behind the number of images in its shape."""

_LENGTH: Final = struct.Struct("<I")
_LABELS: Final = [name.encode() for name in CLASSES]
_PACKED_LABELS: Final = {name: _LENGTH.pack(len(name)) + name for name in _LABELS}

Values: TypeAlias = NDArray[Any] | list[bytes]


def check_model(name: str, version: str, versions: Collection[str]) -> None:
    """Raise NotFound where a request names another model, or a version that is none of these."""
    if name != MODEL:
        raise NotFound(f"there is no model {name[:40]!r}: the only one is {MODEL!r}")
    if version and version not in versions:
        raise NotFound(
            f"there is no version {version[:40]!r} of {MODEL}: there are {', '.join(versions)}; or name none"
        )


def count_images(name: str, datatype: str, shape: list[Any], budget: Budget) -> int:
    """How many images an input holds, by its own words. Raises BadTensor, and TooManyImages."""
    if name != INPUT:
        raise BadTensor(f"there is no input {name[:40]!r}: {_INPUT_FORMS}")
    if datatype not in _TAILS:
        raise BadTensor(f"{INPUT} of type {datatype[:20]!r}: {_INPUT_FORMS}")
    if set(map(type, shape)) != {int} or shape[1:] not in _TAILS[datatype] or shape[0] < 1:
        raise BadTensor(f"{INPUT} of type {datatype} and shape {_shown(shape)}: {_INPUT_FORMS}")
    count: int = shape[0]
    budget.check_images(count)
    return count


def _shown(shape: list[Any]) -> str:
    """A shape in a message: whatever a client put into it, it is not printed before it is known to be short."""
    if all(type(length) is int and abs(length) < 10**12 for length in shape[:8]):
        return str(shape[:8])
    return "of something else than lengths"


def from_pixels(pixels: Bytes, count: int, budget: Budget) -> Decoded:
    """The images of a UINT8 tensor, one byte a pixel. Raises BadTensor."""
    if len(pixels) != count * IMAGE_BYTES:
        raise BadTensor(
            f"{INPUT} has {len(pixels):,} bytes of data, and its shape says {count * IMAGE_BYTES:,}: make them agree"
        )
    return decode_pixels(pixels, budget)


def from_files(files: Sequence[Bytes], count: int, budget: Budget) -> Decoded:
    """The images of a BYTES tensor, each a file. Raises BadTensor, and the first bad image's own error."""
    if len(files) != count:
        raise BadTensor(f"{INPUT} has {len(files):,} elements, and its shape says {count:,}: make them agree")
    return refuse_bad(join(files, lambda file: decode_image(file, budget), budget))


def split(content: bytes, count: int) -> list[bytes]:
    """The elements of a BYTES tensor: before each stands its length, 4 bytes, little-endian. Raises BadTensor."""
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
            f"the data of {INPUT} are not {count:,} elements, each its length in 4 bytes, little-endian, and "
            "its bytes: send them whole"
        )
    return elements


def check_outputs(names: Iterable[str]) -> tuple[str, ...]:
    """The outputs that are asked for, all of them where none is named. Raises BadTensor."""
    asked = tuple(names) or tuple(_OUTPUTS)
    for name in asked:
        if name not in _OUTPUTS:
            raise BadTensor(f"there is no output {name[:40]!r}: there are {', '.join(_OUTPUTS)}")
    if len(set(asked)) < len(asked):
        raise BadTensor("an output is asked for twice: ask once")
    return asked


def output(name: str) -> Tensor:
    """What there is to say of an output that `check_outputs` let pass."""
    return _OUTPUTS[name]


def values(
    names: Sequence[str], probabilities: Probabilities, decoded: Decoded, unknown_threshold: float
) -> list[Values]:
    """Outputs, in the order of their names: numbers as NumPy has them, of the output's shape; labels as bytes.

    `probabilities` are those of `decoded`, whose images are all good.

    What several of them rest on is computed once.
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


def preparation(said: Any, default: Mode) -> Mode:
    """The request's parameter `prepare`, None where it is not there. Raises BadParameter."""
    return default if said is None else parse_mode(said if isinstance(said, str) else "something else than a text")


def raw_bytes(values: Values) -> bytes:
    """An output as a binary tensor: little-endian, BOOL a byte each, and its length before each label."""
    if isinstance(values, list):
        return b"".join([_PACKED_LABELS[label] for label in values])
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
