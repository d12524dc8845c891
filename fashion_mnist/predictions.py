"""From probabilities, float32 [n, classes], to the answer that a client reads."""

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
    # Within a TorchServe that has nothing but the archive. There the same floats are written with nine digits each.
    orjson = None  # type: ignore[assignment]

JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"

Probabilities = NDArray[np.float32]


class Form(NamedTuple):
    """How a client wants its answer: raw float32 or JSON, and of how many classes, None for all."""

    binary: bool = False
    top_k: int | None = None


class Answer(NamedTuple):
    """An answer as it goes over the wire."""

    status: int
    content_type: str
    body: bytes
    headers: bytes = b""
    """More headers, whole lines."""


def answer(
    probabilities: Probabilities,
    decoded: Decoded,
    model_version: str,
    unknown_threshold: float,
    form: Form,
    rows: list[bytes] | None = None,
    task: Task = FASHION_MNIST,
) -> Answer:
    """The answer to one request, whose images may be good or bad. `probabilities` are those of `decoded.pixels`.

    `rows` is what `json_rows` makes of them, where that was done already.
    """
    try:
        if form.binary:
            return Answer(200, OCTET_STREAM, encode_binary(probabilities, decoded))
        body = encode_json(probabilities, decoded, model_version, unknown_threshold, form.top_k, rows, task)
        return Answer(200, JSON, body)
    except InputError as error:
        return answer_error(error, first_error_index(decoded))


def answer_error(error: FashionMNISTError, index: int | None = None) -> Answer:
    """The answer to a request that failed; `index` is the place of the image at fault, where there are several."""
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
    """The answer as JSON: `{"predictions": [...], "model_version"}`, with a part of `json_rows` for each image.

    `probabilities`, float32 [n, classes], are those of `decoded.pixels`, in order; each has as many digits as it takes
    to get the same float32 back. With `top_k` so many of the likeliest classes are given, the likeliest first.
    A bad image has `{"error": {...}}` in its place, an adjusted one says so under "adjusted". Each prediction has its
    "unknown_score" too (`fashion_mnist.ood`), and says by "unknown" whether that is above the threshold. `rows` is
    what `json_rows` makes of the probabilities, where that was done already.

    Raises the first image's error where no image is good.
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
    """The part that each image has in an answer as JSON, with the probability of every class.

    `{"label", "index", "probabilities", "unknown", "unknown_score"}`. `probabilities` is float32 [n, classes], and
    may be that of many requests: what NumPy takes for one call is shared.
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


def wants_binary(accept: str) -> bool:
    """Whether an Accept header asks for float32 as raw binary rather than JSON (RFC 9110, 12.5.1).

    It must name it: a wildcard, under which JSON is as welcome, is no wish. Where both are named with the same weight
    it is meant, too: nobody names it by chance.
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
    raise BadParameter(f"top_k is {text[:40]!r}: it takes a whole number from 1 to {most}")


_UNKNOWN: Final = '"unknown": %b, "unknown_score": %.4f'
_TAIL: Final = f"{_UNKNOWN}}}".encode()
_BOOLEANS: Final = (b"false", b"true")


class _Templates:
    """What an image's part of an answer is made from: a head by its class, and a tail for the numbers.

    Filled in with what orjson writes of them it takes a third of the time that a dictionary would.
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
    """Each number as text."""
    if not len(probabilities):
        return []
    if orjson is None:
        return [[b"%.9g" % value for value in row] for row in probabilities.tolist()]
    rows = orjson.dumps(np.ascontiguousarray(probabilities), option=orjson.OPT_SERIALIZE_NUMPY)
    return [row.split(b",") for row in rows[2:-2].split(b"],[")]
