"""TensorFlow Serving's REST API, which is also KServe's v1 protocol: `{"instances": [...]}`.

https://www.tensorflow.org/tfx/serving/api_rest,
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from math import inf
from typing import Final, NamedTuple

import orjson

from fashion_mnist.decoding.bodies import decode_instances
from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.json_bodies import parse
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.errors import BadJSON
from fashion_mnist.ood import unknown_scores
from fashion_mnist.predictions import JSON, Answer
from fashion_mnist.preparation import Mode
from fashion_mnist.task import Task
from gateway.protocols.reading import check_encoding, preparation, refuse_bad
from gateway.types.job import Job
from gateway.types.page import Offered, Page, page
from gateway.types.request import Request

_SHAPE: Final = '{"instances": [...]} with the rows of pixels, or {"b64": "..."}, for each image'


class Form(NamedTuple):
    """The only form of answers."""

    binary: bool = False


PREDICT: Final = b":predict"


def path(task: Task) -> bytes:
    """The path of the default version."""
    return f"/v1/models/{task.name}".encode()


def path_of(task: Task, version: str) -> bytes:
    """The path of a version."""
    return b"%b/versions/%b" % (path(task), version.encode())


def pages(task: Task) -> dict[bytes, Page]:
    """The constant answers to GET."""
    return {b"/v1/models": page({"models": [task.name]})}


def state(task: Task, offered: Offered, version: str = "") -> Answer:
    """The state of a version, or of all, in the format of both protocols.

    The status is 200 even if the model is not ready; the body reports that.
    """
    statuses = [
        {
            "version": name,
            "state": "AVAILABLE" if ready else "LOADING",
            "status": {"error_code": "OK", "error_message": ""},
        }
        for name, ready in offered.ready.items()
        if version in ("", name)
    ]
    ready = offered.ready[version or offered.default]
    return Answer(200, JSON, orjson.dumps({"name": task.name, "ready": ready, "model_version_status": statuses}))


class V1:
    """See `gateway.types.exchange.Codec`. One invalid image refuses the request."""

    def __init__(self, task: Task, unknown_threshold: float, prepare: Mode) -> None:
        self._task = task
        self._unknown_threshold = unknown_threshold
        self._prepare = prepare

    def is_plain(self, request: Request) -> bool:
        return False

    def read(self, request: Request, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        limits.check_body(len(request.body))
        check_encoding(request.head.content_encoding)
        document = parse(request.body, _SHAPE)
        if not isinstance(document, dict) or "instances" not in document:
            raise BadJSON(f"the body has no instances: send {_SHAPE}")
        budget = Budget(limits, self._task, allowance, preparation(request.head, self._prepare))
        return Form(), refuse_bad(decode_instances(document["instances"], budget))

    def write(self, job: Job, decoded: Decoded, form: Form) -> Answer:
        probabilities = job.probabilities
        predictions = [
            {
                "probabilities": row,
                "index": index,
                "label": self._task.classes[index],
                "unknown": score > self._unknown_threshold or decoded.is_empty(place),
                "unknown_score": round(score, 4),
                **({"adjusted": decoded.adjusted[place]} if place in decoded.adjusted else {}),
            }
            for place, (row, index, score) in enumerate(
                zip(probabilities, probabilities.argmax(axis=1).tolist(), unknown_scores(probabilities), strict=True)
            )
        ]
        return Answer(200, JSON, orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY))
