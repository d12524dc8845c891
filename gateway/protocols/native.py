"""Our own protocol, TorchServe's path: any body to `/predictions/` and the task's name; docs/bodies.md describes it."""

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
    """Where the default version is."""
    return f"/predictions/{task.name}".encode()


def path_of(task: Task, version: str) -> bytes:
    """Where a version is, in TorchServe's way to name one."""
    return b"%b/%b" % (path(task), version.encode())


_WHOLE: Final = Form()


class Wanted(NamedTuple):
    """What a head says: how the body is to be read, and how to answer."""

    content_type: str
    form: Form
    is_multipart: bool
    names_top_k: bool
    """Whether it said how many classes; a field of a form may do so too."""
    prepare: Mode | None
    """How images are to be prepared; None where it does not say."""


class Native:
    """See `gateway.protocols.Codec`. A bad image has its error in its place of the answer."""

    def __init__(self, task: Task, model_version: str, unknown_threshold: float, prepare: Mode) -> None:
        self._task = task
        self._model_version = model_version
        self._unknown_threshold = unknown_threshold
        self._prepare = prepare

    def is_plain(self, request: Request) -> bool:
        return is_plain(request.body, request.head.content_type)

    def read(self, request: Request, limits: Limits, allowance: float = inf) -> tuple[Form, Decoded]:
        wanted: Wanted | None = request.head.plan
        if wanted is None:
            wanted = request.head.plan = _understand(request.head, self._task)
        prepare = wanted.prepare or self._prepare
        if not wanted.is_multipart:
            return wanted.form, decode(
                request.body, wanted.content_type, limits, self._task.geometry, allowance, prepare
            )
        form = wanted.form
        parts = parts_of(request, wanted.content_type, limits, self._task)
        if parts.top_k is not None and not wanted.names_top_k:
            form = form._replace(top_k=parts.top_k)
        prepare = wanted.prepare or parts.prepare or self._prepare
        if len(parts.bodies) == 1:
            return form, decode(*parts.bodies[0], limits, self._task.geometry, allowance, prepare)
        return form, decode_many(parts.bodies, limits, self._task.geometry, allowance, prepare)

    def write(self, job: Job, decoded: Decoded, form: Form) -> Answer:
        rows = job.rows(self._unknown_threshold, self._task) if form == _WHOLE else None
        version, threshold = self._model_version, self._unknown_threshold
        return answer(job.probabilities, decoded, version, threshold, form, rows, self._task)


class Parts(NamedTuple):
    """What a form holds."""

    bodies: list[tuple[bytes, str]]
    """Of the images, each with its content type; one at least."""
    top_k: int | None
    prepare: Mode | None


def parts_of(request: Request, content_type: str, limits: Limits, task: Task) -> Parts:
    """The fields of a form. Raises BadMultipart and BadParameter: wrong is wrong, even where another one wins."""
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
        raise BadMultipart("the form has no field with an image: send -F image=@FILE, as many as you like")
    return Parts(bodies, top_k, prepare)


def body_type(content_type: str) -> str:
    """The content type of a body, as far as it says something of it."""
    # What curl says of --data-binary unless it is told better.
    return "" if content_type[:33].lower() == "application/x-www-form-urlencoded" else content_type


def _understand(head: Head, task: Task) -> Wanted:
    """What requests with this head want. Raises BadParameter."""
    query = dict(parse_qsl(head.url.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
    # An empty parameter is a wrong one: somebody's variable had nothing in it. An empty header is none.
    top_k = query.pop("top_k", head.top_k or None)
    mode = parse_mode(head.prepare) if head.prepare else None  # wrong is wrong, even where the query wins
    if "prepare" in query:
        mode = parse_mode(query.pop("prepare"))
    if query:
        raise BadParameter(f"unknown parameter {next(iter(query))[:40]!r}: there are top_k and prepare")
    form = Form(binary=wants_binary(head.accept))
    if top_k is not None:
        form = form._replace(top_k=parse_top_k(top_k, task))
    content_type = body_type(head.content_type)
    return Wanted(content_type, form, content_type[:10].lower() == "multipart/", top_k is not None, mode)
