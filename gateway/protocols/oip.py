"""The Open Inference Protocol, version 2: what its REST and its gRPC form have in common.

One input, `images`: uint8 pixels, or files as bytes. The outputs: `OUTPUTS`.
https://github.com/kserve/open-inference-protocol; binary tensors as Triton's extension has them,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

import functools
import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.decoding.bodies import decode_image, decode_pixels
from fashion_mnist.decoding.decoded import Bytes, Decoded, image_bytes, join
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
    """What the protocol says of a tensor; -1 is the number of images."""

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
    """The tensors of a task: its input, its outputs, and what may be said of them."""

    def __init__(self, task: Task) -> None:
        channels, *rows = task.geometry
        self._tails: dict[str, list[list[int]]] = {
            "UINT8": [[*task.geometry], *([rows] if channels == 1 else [])],
            "BYTES": [[], [1]],
        }
        """The types of the input, and of each what may stand behind the number of images in its shape."""
        shapes = " or ".join(f"[n, {', '.join(map(str, tail))}]" for tail in self._tails["UINT8"])
        self.input_forms = f"UINT8 of shape {shapes}, or BYTES of shape [n] with an image file in each"
        self.inputs = (Tensor(INPUT, "UINT8", [-1, *task.geometry]),)
        self.outputs = (Tensor(PROBABILITIES, "FP32", [-1, len(task.classes)]), *OTHER_OUTPUTS)
        self.labels = [name.encode() for name in task.classes]

    def count_images(self, name: str, datatype: str, shape: list[Any], budget: Budget) -> int:
        """How many images an input holds, by its own words. Raises BadTensor, and TooManyImages."""
        advice = f"send {INPUT} as {self.input_forms}"
        if name != INPUT:
            raise BadTensor(f"there is no input {name[:40]!r}: {advice}")
        if datatype not in self._tails:
            raise BadTensor(f"{INPUT} of type {datatype[:20]!r}: {advice}")
        if set(map(type, shape)) != {int} or shape[1:] not in self._tails[datatype] or shape[0] < 1:
            raise BadTensor(f"{INPUT} of type {datatype} and shape {_shown(shape)}: {advice}")
        count: int = shape[0]
        budget.check_images(count)
        return count

    def output(self, name: str) -> Tensor:
        """What there is to say of an output that `check_outputs` let pass."""
        return self.outputs[OUTPUTS.index(name)]


@functools.lru_cache(maxsize=16)
def tensors(task: Task) -> Tensors:
    """Those of a task."""
    return Tensors(task)


def check_model(task: Task, name: str, version: str, versions: Collection[str]) -> None:
    """Raise NotFound where a request names another model, or a version that is none of these."""
    if name != task.name:
        raise NotFound(f"there is no model {name[:40]!r}: the only one is {task.name!r}")
    if version and version not in versions:
        raise NotFound(
            f"there is no version {version[:40]!r} of {task.name}: there are {', '.join(versions)}; or name none"
        )


def _shown(shape: list[Any]) -> str:
    """A shape in a message: whatever a client put into it, it is not printed before it is known to be short."""
    if all(type(length) is int and abs(length) < 10**12 for length in shape[:8]):
        return str(shape[:8])
    return "of something else than lengths"


def from_pixels(pixels: Bytes, count: int, budget: Budget) -> Decoded:
    """The images of a UINT8 tensor, one byte a pixel. Raises BadTensor."""
    due = count * image_bytes(budget.geometry)
    if len(pixels) != due:
        raise BadTensor(f"{INPUT} has {len(pixels):,} bytes of data, and its shape says {due:,}: make them agree")
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
    asked = tuple(names) or OUTPUTS
    for name in asked:
        if name not in OUTPUTS:
            raise BadTensor(f"there is no output {name[:40]!r}: there are {', '.join(OUTPUTS)}")
    if len(set(asked)) < len(asked):
        raise BadTensor("an output is asked for twice: ask once")
    return asked


def values(
    names: Sequence[str], probabilities: Probabilities, decoded: Decoded, unknown_threshold: float, task: Task
) -> list[Values]:
    """Outputs, in the order of their names: numbers as NumPy has them, of the output's shape; labels as bytes.

    `probabilities` are those of `decoded`, whose images are all good.

    What several of them rest on is computed once.
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


def preparation(said: Any, default: Mode) -> Mode:
    """The request's parameter `prepare`, None where it is not there. Raises BadParameter."""
    return default if said is None else parse_mode(said if isinstance(said, str) else "something else than a text")


def raw_bytes(values: Values) -> bytes:
    """An output as a binary tensor: little-endian, BOOL a byte each, and its length before each label."""
    if isinstance(values, list):
        return b"".join([_LENGTH.pack(len(label)) + label for label in values])
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
