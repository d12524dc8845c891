"""`POST /explain`: one image of any kind, and back comes what each layer makes of it. See docs/how-to/page.md."""

import base64
import functools
import json
from math import inf
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
import orjson
from numpy.typing import NDArray

from fashion_mnist.decoding.bodies import decode_part, is_plain
from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.encoding import as_picture, encode_picture
from fashion_mnist.errors import BadLength, BadParameter
from fashion_mnist.explanation import Explanation, Occlusion
from fashion_mnist.predictions import JSON, OCTET_STREAM, Answer, json_rows, wants_binary
from fashion_mnist.preparation import Mode, parse_mode
from fashion_mnist.preparation.steps import INPUT, ORIGINAL, Step, Steps
from fashion_mnist.task import Task
from gateway.protocols.native import body_type, parts_of
from gateway.types.request import Head, Request

PATH: Final = b"/explain"

_SWITCHES: Final = {"0": False, "1": True}
_PARAMETERS: Final = ("prepare", "occlusion", "steps")


class Form(NamedTuple):
    """What a request wants to have back."""

    binary: bool
    occlusion: bool
    steps: Steps | None
    """Where the steps of preparation are kept, if they are wanted."""


class _Wanted(NamedTuple):
    """What a head says."""

    content_type: str
    prepare: Mode | None
    binary: bool
    occlusion: bool
    steps: bool


class Explain:
    """How explanations of one version are asked for and written."""

    def __init__(
        self, task: Task, model_version: str, unknown_threshold: float, prepare: Mode, occlusion: Occlusion
    ) -> None:
        """`prepare` is what is done with images where a request does not say it."""
        self._task = task
        self._model_version = model_version
        self._unknown_threshold = unknown_threshold
        self._prepare = prepare
        self._occlusion = occlusion

    def is_plain(self, request: Request) -> bool:
        return is_plain(request.body, request.head.content_type)

    def read(self, request: Request, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        """The form of the answer, and the one image. Raises InputError; TooSlow past the allowance, in pixels."""
        wanted: _Wanted | None = request.head.plan
        if wanted is None:
            wanted = request.head.plan = _understand(request.head)
        body, content_type, prepare = request.body, wanted.content_type, wanted.prepare
        limits.check_body(len(body))
        if content_type[:10].lower() == "multipart/":
            parts = parts_of(request, content_type, limits, self._task)
            if len(parts.bodies) > 1:
                raise _several(len(parts.bodies))
            ((body, content_type),) = parts.bodies
            prepare = prepare or parts.prepare
        budget = Budget(limits, self._task, allowance, prepare or self._prepare)
        budget.steps = Steps() if wanted.steps and not wanted.binary else None
        decoded = decode_part(body, content_type, budget)
        if len(decoded) != 1:
            raise _several(len(decoded))
        if decoded.errors:
            raise decoded.errors[0]
        return Form(wanted.binary, wanted.occlusion, budget.steps), decoded

    def write(self, explanation: Explanation, decoded: Decoded, form: Form) -> Answer:
        """The answer: JSON, or the layers' float32 one after another, and the occlusion map's behind them."""
        adjusted = decoded.adjusted.get(0, [])
        if form.binary:
            maps = [*explanation.layers.values(), *([] if explanation.occlusion is None else [explanation.occlusion])]
            body = b"".join(values.astype("<f4", copy=False).tobytes() for values in maps)
            headers = f"X-Model-Version: {self._model_version}\r\nX-Adjusted: {json.dumps(adjusted)}\r\n"
            return Answer(200, OCTET_STREAM, body, headers.encode())
        return Answer(200, JSON, orjson.dumps(self._document(explanation, decoded, form, adjusted), option=_AS_NUMPY))

    def _document(self, explanation: Explanation, decoded: Decoded, form: Form, adjusted: list[str]) -> dict[str, Any]:
        prediction = orjson.loads(json_rows(explanation.probabilities[None], self._unknown_threshold, self._task)[0])
        prediction["unknown"] |= decoded.is_empty(0)
        document: dict[str, Any] = {
            "model_version": self._model_version,
            "prediction": prediction,
            "adjusted": adjusted,
            "input": {"shape": list(self._task.geometry), "values": decoded.pixels[0].ravel()},
            "layers": [
                {"name": name, "shape": list(values.shape), "values": values.ravel()}
                for name, values in explanation.layers.items()
            ],
        }
        if explanation.occlusion is not None:
            document["occlusion"] = {**self._occlusion.to_json(), "values": explanation.occlusion.ravel()}
        if form.steps is not None:
            document["preparation"] = [_shown(step) for step in _all_steps(form.steps, decoded.pixels[0])]
        return document


_AS_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


def _understand(head: Head) -> _Wanted:
    """What requests with this head want. Raises BadParameter."""
    query = dict(parse_qsl(head.url.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
    mode = parse_mode(head.prepare) if head.prepare else None  # invalid values are always refused
    if "prepare" in query:
        mode = parse_mode(query["prepare"])
    if unknown := [name for name in query if name not in _PARAMETERS]:
        raise BadParameter(f"unknown parameter {unknown[0][:40]!r}: there are {', '.join(_PARAMETERS)}")
    switch = functools.partial(_switch, query)
    return _Wanted(body_type(head.content_type), mode, wants_binary(head.accept), switch("occlusion"), switch("steps"))


def _switch(query: dict[str, str], name: str) -> bool:
    text = query.get(name, "1")
    if text not in _SWITCHES:
        raise BadParameter(f"{name} is {text[:40]!r}: it takes 0 or 1")
    return _SWITCHES[text]


def _several(count: int) -> BadLength:
    return BadLength(f"{count:,} images where one must be: send each by itself")


def _all_steps(steps: Steps, image: NDArray[np.uint8]) -> list[Step]:
    """The pictures from the first to what the network sees, whether or not anything was prepared."""
    last = Step(INPUT, as_picture(image))
    return [*(steps.pictures or [last._replace(name=ORIGINAL)]), last]


def _shown(step: Step) -> dict[str, Any]:
    height, width = step.pixels.shape[:2]
    png = base64.b64encode(encode_picture(step.pixels, compress_level=1)).decode()
    return {"step": step.name, "width": width, "height": height, "png": png}
