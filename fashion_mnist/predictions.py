"""From probabilities, float32 [n, 10], to the answer that a client reads."""

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import CLASSES
from fashion_mnist.errors import BadParameter, FashionMNISTError, InputError
from fashion_mnist.images import Decoded

JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"

Probabilities = NDArray[np.float32]


class Form(NamedTuple):
    """How a client wants its answer: float32 octets or JSON, and of how many classes."""

    octets: bool = False
    top_k: int = len(CLASSES)


class Answer(NamedTuple):
    """An answer as it goes over the wire."""

    status: int
    content_type: str
    body: bytes


def answer(probabilities: Probabilities, decoded: Decoded, model_version: str, form: Form) -> Answer:
    """The answer to one request, whose images may be good or bad. `probabilities` are those of `decoded.pixels`."""
    try:
        if form.octets:
            return Answer(200, OCTET_STREAM, encode_octets(probabilities, decoded))
        return Answer(200, JSON, encode_json(probabilities, decoded, model_version, form.top_k))
    except InputError as error:
        return answer_error(error, first_error_index(decoded))


def answer_error(error: FashionMNISTError, index: int | None = None) -> Answer:
    """The answer to a request that failed; `index` is the place of the image at fault, where there are several."""
    return Answer(error.status, JSON, encode_error(error, index))


def encode_json(probabilities: Probabilities, decoded: Decoded, model_version: str, top_k: int = len(CLASSES)) -> bytes:
    """The answer as JSON: `{"predictions": [{"label", "index", "probabilities"}, ...], "model_version"}`.

    `probabilities`, float32 [n, 10], are those of `decoded.pixels`, in order; they are written with nine digits, which
    give every float32 back exactly. With `top_k` below 10 the likeliest classes are given, the likeliest first.
    A bad image has `{"error": {...}}` in its place, an adjusted one says so under "adjusted".

    Raises the first image's error where no image is good.
    """
    if decoded.errors and not len(decoded.pixels):
        raise decoded.errors[0]
    every_class = top_k == len(CLASSES)
    rows = _every_class(probabilities) if every_class else _likeliest(probabilities, top_k)
    if decoded.errors or decoded.adjusted:
        good = iter(rows)
        rows = [_place(place, good, decoded) for place in range(len(decoded))]
    return f'{{"predictions": [{", ".join(rows)}], "model_version": {json.dumps(model_version)}}}'.encode()


def encode_octets(probabilities: Probabilities, decoded: Decoded) -> bytes:
    """The answer as float32 [n, 10], little-endian, row by row.

    There is no room for an error among the numbers: one bad image refuses all, by the index of the first bad one.
    Raises that image's error.
    """
    if decoded.errors:
        raise decoded.errors[min(decoded.errors)]
    return probabilities.astype("<f4", copy=False).tobytes()


def encode_error(error: FashionMNISTError, index: int | None = None) -> bytes:
    """An error's body, the same for every failure: `{"error": {"code", "message", "index"?}}`."""
    return json.dumps({"error": error.body(index)}).encode()


def first_error_index(decoded: Decoded) -> int | None:
    """The place of the first bad image, or None where the request held just one image."""
    return min(decoded.errors) if decoded.errors and len(decoded) > 1 else None


def parse_top_k(text: str) -> int:
    """The query parameter `top_k`, 1 to 10. Raises BadParameter."""
    if text.isascii() and text.isdigit() and 1 <= int(text[:3]) <= len(CLASSES):
        return int(text)
    raise BadParameter(f"top_k is {text[:40]!r}: it takes a whole number from 1 to {len(CLASSES)}")


_CLASSES_JSON: Final = [json.dumps(name) for name in CLASSES]
# Filled in for each image: json.dumps would take several times as long to write ten floats.
_ROWS: Final = [
    f'{{"label": {name}, "index": {index}, "probabilities": {{'
    + ", ".join(f"{other}: %.9g" for other in _CLASSES_JSON)
    + "}}"
    for index, name in enumerate(_CLASSES_JSON)
]


def _place(place: int, good: Iterator[str], decoded: Decoded) -> str:
    if error := decoded.errors.get(place):
        return json.dumps({"error": error.body(place)})
    row = next(good)
    if adjusted := decoded.adjusted.get(place):
        return f'{row[:-1]}, "adjusted": {json.dumps(adjusted)}}}'
    return row


def _every_class(probabilities: Probabilities) -> list[str]:
    winners = probabilities.argmax(axis=1).tolist()
    return [_ROWS[winner] % tuple(row) for winner, row in zip(winners, probabilities.tolist(), strict=True)]


def _likeliest(probabilities: Probabilities, top_k: int) -> list[str]:
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].tolist()
    rows = []
    for row, likeliest in zip(probabilities.tolist(), order, strict=True):
        pairs = ", ".join(f"{_CLASSES_JSON[index]}: {row[index]:.9g}" for index in likeliest)
        winner = likeliest[0]
        rows.append(f'{{"label": {_CLASSES_JSON[winner]}, "index": {winner}, "probabilities": {{{pairs}}}}}')
    return rows
