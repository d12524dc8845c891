"""Converts probabilities, float32 [n, classes], to the answer for a client."""

import functools
import json
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.errors import BadParameter, FashionMNISTError, InputError
from fashion_mnist.ood import unknown_scores
from fashion_mnist.task import FASHION_MNIST, Task

try:
    import orjson
except ImportError:
    # In a TorchServe that has only the archive. There, floats are written with nine digits each.
    orjson = None  # type: ignore[assignment]

JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"

Probabilities = NDArray[np.float32]


class Form(NamedTuple):
    """The requested form of an answer: raw float32 or JSON, and the number of classes, None for all."""

    binary: bool = False
    top_k: int | None = None


class Answer(NamedTuple):
    """An answer to send."""

    status: int
    content_type: str
    body: bytes
    headers: bytes = b""
    """Additional headers, as complete lines."""


def answer(
    probabilities: Probabilities,
    decoded: Decoded,
    model_version: str,
    unknown_threshold: float,
    form: Form,
    rows: list[bytes] | None = None,
    task: Task = FASHION_MNIST,
) -> Answer:
    """The answer to one request, with valid and invalid images. `probabilities` are those of `decoded.pixels`.

    `rows` is the result of `json_rows` if it was computed already.
    """
    try:
        if form.binary:
            return Answer(200, OCTET_STREAM, encode_binary(probabilities, decoded))
        body = encode_json(probabilities, decoded, model_version, unknown_threshold, form.top_k, rows, task)
        return Answer(200, JSON, body)
    except InputError as error:
        return answer_error(error, first_error_index(decoded))


def answer_error(error: FashionMNISTError, index: int | None = None) -> Answer:
    """The answer to a request that failed; `index` is that of the invalid image, if there are several images."""
    return Answer(error.status, JSON, encode_error(error, index))


def encode_json(
    probabilities: Probabilities,
    decoded: Decoded,
    model_version: str,
    unknown_threshold: float,
    top_k: int | None = None,
    rows: list[bytes] | None = None,
    task: Task = FASHION_MNIST,
) -> bytes:
    """The answer as JSON: `{"predictions": [...], "model_version"}`, with one of `json_rows` for each image.

    `probabilities`, float32 [n, classes], are those of `decoded.pixels`, in order; each is written with enough digits
    to restore the float32. With `top_k` only that many classes are included, the most likely first.
    An invalid image has `{"error": {...}}` in its place, an adjusted one has the changes under "adjusted". Each
    prediction has its "unknown_score" (`fashion_mnist.ood`), and "unknown" is whether that exceeds the threshold.
    `rows` is the result of `json_rows` if it was computed already.

    Raises the first image's error if no image is valid.
    """
    if decoded.errors and not len(decoded.pixels):
        raise decoded.errors[0]
    if top_k is not None and top_k < len(task.classes):
        rows = _likeliest(probabilities, unknown_threshold, top_k, task)
    elif rows is None:
        rows = json_rows(probabilities, unknown_threshold, task)
    if decoded.errors or decoded.adjusted:
        good = iter(rows)
        rows = [_place(place, good, decoded) for place in range(len(decoded))]
    return b'{"predictions": [%b], "model_version": %b}' % (b", ".join(rows), _json_text(model_version))


def json_rows(probabilities: Probabilities, unknown_threshold: float, task: Task = FASHION_MNIST) -> list[bytes]:
    """Each image's part of a JSON answer, with the probability of every class.

    `{"label", "index", "probabilities", "unknown", "unknown_score"}`. `probabilities` is float32 [n, classes], possibly
    of many requests, which share the overhead of NumPy's calls.
    """
    templates = _templates(task)
    heads, tail = templates.heads, templates.tail
    winners = probabilities.argmax(axis=1).tolist()
    scores = unknown_scores(probabilities)
    return [
        heads[winner] + tail % (*row, _BOOLEANS[score > unknown_threshold], score)
        for winner, row, score in zip(winners, _written(probabilities), scores, strict=True)
    ]


def encode_binary(probabilities: Probabilities, decoded: Decoded) -> bytes:
    """The answer as float32 [n, classes], little-endian, row by row.

    Numbers cannot contain errors: one invalid image refuses the request. Raises the error of the first invalid image.
    """
    if decoded.errors:
        raise decoded.errors[min(decoded.errors)]
    return probabilities.astype("<f4", copy=False).tobytes()


def encode_error(error: FashionMNISTError, index: int | None = None) -> bytes:
    """An error's body, the same for every failure: `{"error": {"code", "message", "index"?}}`."""
    return json.dumps({"error": error.body(index)}).encode()


def first_error_index(decoded: Decoded) -> int | None:
    """The index of the first invalid image; None if the request has a single image."""
    return min(decoded.errors) if decoded.errors and len(decoded) > 1 else None


def wants_binary(accept: str) -> bool:
    """Whether an Accept header asks for float32 as raw binary rather than JSON (RFC 9110, 12.5.1).

    The header must name application/octet-stream: a wildcard includes JSON. If both are named with the same weight,
    binary wins, because clients do not name it by chance.
    """
    if OCTET_STREAM not in accept.lower():
        return False
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        weight = next((value for name, _, value in (part.partition("=") for part in parameters) if name == "q"), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    json_weight = next((weights[kind] for kind in (JSON, "application/*", "*/*") if kind in weights), 0.0)
    binary_weight = weights.get(OCTET_STREAM, 0.0)
    return binary_weight > 0 and binary_weight >= json_weight


def parse_top_k(text: str, task: Task = FASHION_MNIST) -> int:
    """The query parameter `top_k`, 1 to the number of classes. Raises BadParameter."""
    most = len(task.classes)
    if (
        text.isascii()
        and text.isdecimal()
        and len(text) <= len(str(most))
        and 1 <= int(text) <= most
        and text[0] != "0"
    ):
        return int(text)
    raise BadParameter(f"top_k is {text[:40]!r}: use an integer from 1 to {most}")


_UNKNOWN: Final = '"unknown": %b, "unknown_score": %.4f'
_TAIL: Final = f"{_UNKNOWN}}}".encode()
_BOOLEANS: Final = (b"false", b"true")


class _Templates:
    """The templates of an image's part of an answer: a head for each class, and a tail for the numbers.

    Filling them with numbers that orjson has written takes a third of the time of dictionaries.
    """

    def __init__(self, task: Task) -> None:
        self.names = [json.dumps(name) for name in task.classes]
        self.heads = [f'{{"label": {name}, "index": {index}, '.encode() for index, name in enumerate(self.names)]
        probabilities = ", ".join(f"{name.replace('%', '%%')}: %b" for name in self.names)
        self.tail = f'"probabilities": {{{probabilities}}}, {_UNKNOWN}}}'.encode()


@functools.lru_cache(maxsize=16)
def _templates(task: Task) -> _Templates:
    return _Templates(task)


@functools.lru_cache
def _json_text(text: str) -> bytes:
    return json.dumps(text).encode()


def _place(place: int, good: Iterator[bytes], decoded: Decoded) -> bytes:
    if error := decoded.errors.get(place):
        return encode_error(error, place)
    row = next(good)
    if decoded.is_empty(place):
        row = row.replace(b'"unknown": false', b'"unknown": true')
    if adjusted := decoded.adjusted.get(place):
        return b'%b, "adjusted": %b}' % (row[:-1], json.dumps(adjusted).encode())
    return row


def _likeliest(probabilities: Probabilities, unknown_threshold: float, top_k: int, task: Task) -> list[bytes]:
    templates = _templates(task)
    names = templates.names
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].tolist()
    rows = []
    scores = unknown_scores(probabilities)
    for row, score, likeliest in zip(_written(probabilities), scores, order, strict=True):
        pairs = ", ".join(f"{names[index]}: {row[index].decode()}" for index in likeliest)
        winner = likeliest[0]
        known = _TAIL % (_BOOLEANS[score > unknown_threshold], score)
        rows.append(templates.heads[winner] + f'"probabilities": {{{pairs}}}, '.encode() + known)
    return rows


def _written(probabilities: Probabilities) -> list[list[bytes]]:
    """Each number as JSON text."""
    if not len(probabilities):
        return []
    if orjson is None:
        return [[b"%.9g" % value for value in row] for row in probabilities.tolist()]
    rows = orjson.dumps(np.ascontiguousarray(probabilities), option=orjson.OPT_SERIALIZE_NUMPY)
    return [row.split(b",") for row in rows[2:-2].split(b"],[")]
