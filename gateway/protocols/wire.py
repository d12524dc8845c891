"""Protobuf's wire format, scanned to bound the cost of a message before it is parsed.

Two bytes that encode an empty message become an object of a hundred bytes: 16 MiB of them take seconds and a GiB.
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from fashion_mnist.errors import BadTensor
from gateway.protocols import inference_pb2 as pb

BESIDE_TENSORS: Final = 4096
"""The maximum of a message's bytes that are not contents of a tensor: names, shapes, parameters and tags. Shorter
messages are cheap to parse whatever they contain."""

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_INPUTS: Final = pb.ModelInferRequest.INPUTS_FIELD_NUMBER
_RAW: Final = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_DATATYPE: Final = pb.ModelInferRequest.InferInputTensor.DATATYPE_FIELD_NUMBER
_CONTENTS: Final = pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER
_PIXELS_OR_FILES: Final = (
    pb.InferTensorContents.UINT_CONTENTS_FIELD_NUMBER,
    pb.InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER,
)
_NO_MESSAGE: Final = "the message is no ModelInferRequest: use gateway/protocols/inference.proto"


class Field(NamedTuple):
    """One field: its number, and the offsets of its tag, its content and its end."""

    number: int
    begin: int
    start: int
    stop: int


class Outline(NamedTuple):
    """A summary of a ModelInferRequest."""

    plain: bool
    """Whether its tensors are raw UINT8, which take negligible time to read."""
    contents: list[tuple[int, int]]
    """The offsets of its inputs' typed contents, start and end."""


def outline(message: bytes) -> Outline:
    """Summarise a ModelInferRequest of any length in negligible time.

    Raises BadTensor if it is none, or has more than BESIDE_TENSORS bytes beside its tensors' contents.
    """
    raw, pixels, beside = False, True, 0
    contents: list[tuple[int, int]] = []
    for field in fields(message, 0, len(message)):
        if field.number == _RAW:
            raw = True
            beside += field.start - field.begin
        elif field.number == _INPUTS:
            beside += field.start - field.begin
            for inner in fields(message, field.start, field.stop):
                if inner.number == _CONTENTS:
                    contents.append((inner.start, inner.stop))
                    beside += inner.start - inner.begin
                else:
                    beside += inner.stop - inner.begin
                if inner.number == _DATATYPE and message[inner.start : inner.stop] != b"UINT8":
                    pixels = False
                if beside > BESIDE_TENSORS:
                    break
        else:
            beside += field.stop - field.begin
        if beside > BESIDE_TENSORS:
            raise BadTensor(
                f"the message has more than {BESIDE_TENSORS:,} bytes beside the contents of its tensors: send one "
                "input, its contents once, and short names and parameters"
            )
    return Outline(raw and pixels and not contents, contents)


def check_contents(message: bytes, contents: list[tuple[int, int]], max_elements: int) -> None:
    """Raise BadTensor if typed contents are neither pixels nor files, or have more elements than allowed."""
    for start, stop in contents:
        for field in fields(message, start, stop):
            max_elements -= 1
            if max_elements < 0 or field.number not in _PIXELS_OR_FILES:
                raise BadTensor(
                    "send the contents of an input as packed uint_contents, or as bytes_contents with one file each, "
                    "not more than a request may have images"
                )


def fields(message: bytes, position: int, end: int) -> Iterator[Field]:
    """The fields of a message between two offsets. Raises BadTensor if they are malformed."""
    while position < end:
        begin = position
        tag, position = _varint(message, position, end)
        start, kind = position, tag & 7
        if kind == _LENGTH:
            length, start = _varint(message, position, end)
            position = start + length
        elif kind == _VARINT:
            _, position = _varint(message, position, end)
        elif kind in (_FIXED_32, _FIXED_64):
            position += 4 if kind == _FIXED_32 else 8
        else:
            raise BadTensor(_NO_MESSAGE)
        if position > end:
            raise BadTensor(_NO_MESSAGE)
        yield Field(tag >> 3, begin, start, position)


def _varint(message: bytes, position: int, end: int) -> tuple[int, int]:
    """A number in seven bits per byte, the lowest first, and the offset after it. Raises BadTensor."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise BadTensor(_NO_MESSAGE)
