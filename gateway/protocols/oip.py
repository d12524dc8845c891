"""The Open Inference Protocol, version 2: what its REST and gRPC forms share.

One input, `images`: uint8 pixels, or files as bytes. The outputs are `OUTPUTS`.
https://github.com/kserve/open-inference-protocol; binary tensors as in Triton's extension,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

import functools
import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.decoding.bodies import decode_image, decode_pixels
from fashion_mnist.decoding.decoded import Bytes, Decoded, join
from fashion_mnist.decoding.limits import Budget
from fashion_mnist.errors import BadTensor, NotFound
from fashion_mnist.ood import unknown_scores
from fashion_mnist.predictions import Probabilities
from fashion_mnist.preparation import Mode, parse_mode
from fashion_mnist.task import Task
from gateway.protocols.reading import refuse_bad

INPUT: Final = "images"
PLATFORM: Final = "onnxruntime_onnx"
SERVER: Final = "fashion-mnist-serving"
EXTENSIONS: Final = ("binary_tensor_data",)


class Tensor(NamedTuple):
    """A tensor's metadata; -1 stands for the number of images."""

    name: str
    datatype: str
    shape: list[int]


PROBABILITIES: Final = "probabilities"
OTHER_OUTPUTS: Final = (
    Tensor("index", "INT64", [-1]),
    Tensor("label", "BYTES", [-1]),
    Tensor("unknown", "BOOL", [-1]),
    Tensor("unknown_score", "FP32", [-1]),
)
OUTPUTS: Final = (PROBABILITIES, *(output.name for output in OTHER_OUTPUTS))

_LENGTH: Final = struct.Struct("<I")
Values: TypeAlias = NDArray[Any] | list[bytes]


class Tensors:
    """The input and the outputs of a task."""

    def __init__(self, task: Task) -> None:
        channels, *rows = task.geometry
        self._tails: dict[str, list[list[int]]] = {
            "UINT8": [[*task.geometry], *([rows] if channels == 1 else [])],
            "BYTES": [[], [1]],
        }
        """By the type of the input: the dimensions that may follow the number of images in its shape."""
        shapes = " or ".join(f"[n, {', '.join(map(str, tail))}]" for tail in self._tails["UINT8"])
        self.input_forms = f"UINT8 of shape {shapes}, or BYTES of shape [n] with an image file in each"
        self.inputs = (Tensor(INPUT, "UINT8", [-1, *task.geometry]),)
        self.outputs = (Tensor(PROBABILITIES, "FP32", [-1, len(task.classes)]), *OTHER_OUTPUTS)
        self.labels = [name.encode() for name in task.classes]

    def count_images(self, name: str, datatype: str, shape: list[Any], budget: Budget) -> int:
        """The number of images of an input, by its shape. Raises BadTensor, and TooManyImages."""
        advice = f"send {INPUT} as {self.input_forms}"
        if name != INPUT:
            raise BadTensor(f"unknown input {name[:40]!r}: {advice}")
        if datatype not in self._tails:
            raise BadTensor(f"{INPUT} of type {datatype[:20]!r}: {advice}")
        if set(map(type, shape)) != {int} or shape[1:] not in self._tails[datatype] or shape[0] < 1:
            raise BadTensor(f"{INPUT} of type {datatype} and shape {_shown(shape)}: {advice}")
        count: int = shape[0]
        budget.check_images(count)
        return count

    def output(self, name: str) -> Tensor:
        """The metadata of an output that `check_outputs` returned."""
        return self.outputs[OUTPUTS.index(name)]


@functools.lru_cache(maxsize=16)
def tensors(task: Task) -> Tensors:
    """The tensors of a task."""
    return Tensors(task)


def check_model(task: Task, name: str, version: str, versions: Collection[str]) -> None:
    """Raise NotFound if a request names another model or an unknown version."""
    if name != task.name:
        raise NotFound(f"unknown model {name[:40]!r}: the only one is {task.name!r}")
    if version and version not in versions:
        raise NotFound(f"unknown version {version[:40]!r} of {task.name}: use one of {', '.join(versions)}, or none")


def _shown(shape: list[Any]) -> str:
    """A shape for an error message, of bounded length."""
    if all(type(length) is int and abs(length) < 10**12 for length in shape[:8]):
        return str(shape[:8])
    return "that is not a list of integers"


def from_pixels(pixels: Bytes, count: int, budget: Budget) -> Decoded:
    """The images of a UINT8 tensor, one byte per pixel. Raises BadTensor."""
    due = count * budget.geometry.image_bytes
    if len(pixels) != due:
        raise BadTensor(f"{INPUT} has {len(pixels):,} bytes of data, but its shape requires {due:,}: correct one")
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
    requested = tuple(names) or OUTPUTS
    for name in requested:
        if name not in OUTPUTS:
            raise BadTensor(f"unknown output {name[:40]!r}: use {', '.join(OUTPUTS)}")
    if len(set(requested)) < len(requested):
        raise BadTensor("an output is requested twice: request it once")
    return requested


def values(
    names: Sequence[str], probabilities: Probabilities, decoded: Decoded, unknown_threshold: float, task: Task
) -> list[Values]:
    """Outputs in the order of their names: numbers as NumPy arrays of the output's shape, labels as bytes.

    `probabilities` are those of `decoded`, whose images are all valid.
    """
    index: list[int] = []
    scores: list[float] = []
    found: list[Values] = []
    for name in names:
        if name == PROBABILITIES:
            found.append(probabilities)
        elif name in ("index", "label"):
            index = index or probabilities.argmax(axis=1).tolist()
            labels = tensors(task).labels
            found.append(np.array(index, "<i8") if name == "index" else [labels[place] for place in index])
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
        return b"".join([_LENGTH.pack(len(label)) + label for label in values])
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
