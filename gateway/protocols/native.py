"""Our own protocol, at TorchServe's path: any body to `/predictions/TASK`. See docs/reference/bodies.md."""

from math import inf
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from fashion_mnist.decoding.bodies import decode, decode_many, is_plain
from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import BadMultipart, BadParameter
from fashion_mnist.predictions import Answer, Form, answer, parse_top_k, wants_binary
from fashion_mnist.preparation import Mode, parse_mode
from fashion_mnist.task import Task
from gateway.protocols import forms
from gateway.types.job import Job
from gateway.types.request import Head, Request


def path(task: Task) -> bytes:
    """The path of the default version."""
    return f"/predictions/{task.name}".encode()


def path_of(task: Task, version: str) -> bytes:
    """The path of a version, as in TorchServe."""
    return b"%b/%b" % (path(task), version.encode())


_WHOLE: Final = Form()


class Plan(NamedTuple):
    """How to read the body and how to answer, by a request's head."""

    content_type: str
    form: Form
    is_multipart: bool
    has_top_k: bool
    """Whether the head chooses the number of classes; otherwise a field of a form may."""
    prepare: Mode | None
    """How to prepare images; None if the head does not choose it."""


class Native:
    """See `gateway.types.exchange.Codec`. An invalid image has its error at its place in the answer."""

    def __init__(self, task: Task, model_version: str, unknown_threshold: float, prepare: Mode) -> None:
        self._task = task
        self._model_version = model_version
        self._unknown_threshold = unknown_threshold
        self._prepare = prepare

    def is_plain(self, request: Request) -> bool:
        return is_plain(request.body, request.head.content_type)

    def read(self, request: Request, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        plan: Plan | None = request.head.plan
        if plan is None:
            plan = request.head.plan = _plan(request.head, self._task)
        prepare = plan.prepare or self._prepare
        if not plan.is_multipart:
            return plan.form, decode(request.body, plan.content_type, limits, self._task, allowance, prepare)
        form = plan.form
        parts = parts_of(request, plan.content_type, limits, self._task)
        if parts.top_k is not None and not plan.has_top_k:
            form = form._replace(top_k=parts.top_k)
        prepare = plan.prepare or parts.prepare or self._prepare
        if len(parts.bodies) == 1:
            return form, decode(*parts.bodies[0], limits, self._task, allowance, prepare)
        return form, decode_many(parts.bodies, limits, self._task, allowance, prepare)

    def write(self, job: Job, decoded: Decoded, form: Form) -> Answer:
        rows = job.rows(self._unknown_threshold, self._task) if form == _WHOLE else None
        version, threshold = self._model_version, self._unknown_threshold
        return answer(job.probabilities, decoded, version, threshold, form, rows, self._task)


class Parts(NamedTuple):
    """The content of a form."""

    bodies: list[tuple[bytes, str]]
    """The images, each with its content type; at least one."""
    top_k: int | None
    prepare: Mode | None


def parts_of(request: Request, content_type: str, limits: Limits, task: Task) -> Parts:
    """The fields of a form. Raises BadMultipart and BadParameter, also for a parameter that the head overrides."""
    bodies = []
    options: dict[str, str] = {}
    for field in forms.parse(request.body, content_type, limits):
        if field.name in ("top_k", "prepare"):
            options.setdefault(field.name, field.content.decode("latin-1"))
        else:
            bodies.append((field.content, field.content_type))
    top_k = parse_top_k(options["top_k"], task) if "top_k" in options else None
    prepare = parse_mode(options["prepare"]) if "prepare" in options else None
    if not bodies:
        raise BadMultipart("the form has no field with an image: send one or more, as curl's -F image=@FILE does")
    return Parts(bodies, top_k, prepare)


def body_type(content_type: str) -> str:
    """The content type of a body; "" for curl's default for --data-binary, whatever the body is."""
    return "" if content_type[:33].lower() == "application/x-www-form-urlencoded" else content_type


def _plan(head: Head, task: Task) -> Plan:
    """How to read and answer requests with this head. Raises BadParameter."""
    query = dict(parse_qsl(head.url.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
    # An empty parameter is refused, because a client's variable was probably unset. An empty header is ignored.
    top_k = query.pop("top_k", head.top_k or None)
    mode = parse_mode(head.prepare) if head.prepare else None  # invalid values are always refused
    if "prepare" in query:
        mode = parse_mode(query.pop("prepare"))
    if query:
        raise BadParameter(f"unknown parameter {next(iter(query))[:40]!r}: use top_k or prepare")
    form = Form(binary=wants_binary(head.accept))
    if top_k is not None:
        form = form._replace(top_k=parse_top_k(top_k, task))
    content_type = body_type(head.content_type)
    return Plan(content_type, form, content_type[:10].lower() == "multipart/", top_k is not None, mode)
