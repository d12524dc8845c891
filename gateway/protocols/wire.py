"""Protobuf's wire format, as far as it takes to know what a message will cost before it is parsed.

Two bytes that say "an empty message follows" become an object of a hundred: 16 MiB of them take seconds and a GiB.
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from fashion_mnist.errors import BadTensor
from gateway.protocols import inference_pb2 as pb

BESIDE_TENSORS: Final = 4096
"""The most bytes of a message that are not contents of a tensor: names, shapes, parameters and what stands before them.
Shorter messages cost little whatever is in them."""

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_INPUTS: Final = pb.ModelInferRequest.INPUTS_FIELD_NUMBER
_RAW: Final = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_DATATYPE: Final = pb.ModelInferRequest.InferInputTensor.DATATYPE_FIELD_NUMBER
_CONTENTS: Final = pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER
_PIXELS_OR_FILES: Final = (
    pb.InferTensorContents.UINT_CONTENTS_FIELD_NUMBER,
    pb.InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER,
)
_NO_MESSAGE: Final = "the message is no ModelInferRequest: make it from gateway/protocols/inference.proto"


class Field(NamedTuple):
    """One field: its number, where its tag begins, and where its content begins and ends."""

    number: int
    begin: int
    start: int
    stop: int


class Outline(NamedTuple):
    """What a ModelInferRequest holds."""

    plain: bool
    """Whether its tensors are UINT8 and raw, so that reading them takes no time."""
    contents: list[tuple[int, int]]
    """Where the typed contents of its inputs begin and end."""


def outline(message: bytes) -> Outline:
    """What a ModelInferRequest of any length holds, in no time.

    Raises BadTensor where it is none, or has much beside its tensors.
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


def check_contents(message: bytes, contents: list[tuple[int, int]], most: int) -> None:
    """Raise BadTensor where typed contents are no pixels or files, or have more than so many elements."""
    for start, stop in contents:
        for field in fields(message, start, stop):
            most -= 1
            if most < 0 or field.number not in _PIXELS_OR_FILES:
                raise BadTensor(
                    "the contents of an input are uint_contents in one piece, or bytes_contents with a file in each, "
                    "and no more of them than there may be images: send them so"
                )


def fields(message: bytes, position: int, end: int) -> Iterator[Field]:
    """The fields of a message between two places. Raises BadTensor where they are none."""
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
    """A number in seven bits a byte, the lowest first; and the place behind it. Raises BadTensor."""
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
