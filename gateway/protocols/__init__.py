"""What clients speak: a module for each protocol, from a request to images, and from probabilities to an answer.

All of them decode by the core, wait in the same line and raise the same errors; only the words differ.
"""

import json
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import QUICK_PIXELS, Limits, TooSlow
from fashion_mnist.errors import FashionMNISTError, UnsupportedMediaType
from fashion_mnist.predictions import JSON, Answer
from fashion_mnist.predictions import answer_error as answer_native_error
from fashion_mnist.preparation import Mode, parse_mode
from gateway.batching import Job

if TYPE_CHECKING:
    from opentelemetry.trace import Span

MODEL: Final = "fashion_mnist"

QUICK_BYTES: Final = 16 * 1024


class Exchange(Protocol):
    """A request and the way back, over HTTP or gRPC."""

    body: bytes
    started: float
    received: float
    gone: bool
    on_gone: Callable[[], None] | None
    span: "Span | None"

    @property
    def expires(self) -> float:
        """When nobody waits for the answer any more, by `time.perf_counter`; infinite where it does not say."""

    @property
    def url(self) -> bytes:
        """Path and query, or the name of a call."""

    @property
    def traceparent(self) -> str:
        """Its caller's span, as https://www.w3.org/TR/trace-context/ writes it."""

    @property
    def tracestate(self) -> str:
        """More of that."""

    @property
    def request_id(self) -> bytes:
        """Its name in answers and logs."""

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send the answer, once; `headers` are whole lines."""

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send an error instead, in the words of the protocol that was asked."""


class Form(Protocol):
    """What a request wants to have back; each protocol has its own."""

    @property
    def octets(self) -> bool:
        """Whether the answer is numbers as they are, written in no time whatever their number."""


R = TypeVar("R", bound=Exchange, contravariant=True)
F = TypeVar("F", bound=Form)


class Speaker(Protocol[R, F]):
    """One protocol's way to predict."""

    def is_plain(self, request: R) -> bool:
        """Whether a long request holds pixels as they are, so that reading it takes no time whatever its length."""

    def read(self, request: R, limits: Limits, allowance: float = inf) -> tuple[F, Decoded]:
        """The form of the answer, and the images. Raises InputError where the request as a whole is at fault.

        What costs more pixels than the allowance raises TooSlow.
        """

    def write(self, job: Job, decoded: Decoded, form: F) -> Answer:
        """The answer; the job has the probabilities of `decoded.pixels`."""


class Offered(NamedTuple):
    """The versions of the model that clients may ask for."""

    default: str
    """Which one answers where none is named."""
    ready: Mapping[str, bool]
    """Whether each is ready, by name, in the order in which they were loaded."""


class Page(NamedTuple):
    """What a path that is asked by GET answers, by whether the engine is ready."""

    ready: Answer
    not_ready: Answer
    version: str = ""
    """Of which version; "" for the default."""


def page(document: Mapping[str, Any], not_ready: Mapping[str, Any] | None = None, version: str = "") -> Page:
    """A page of JSON: the same at all times, or with another one, and 503, while the engine is not ready."""
    ready = Answer(200, JSON, json.dumps(document).encode())
    return Page(ready, Answer(503, JSON, json.dumps(not_ready).encode()) if not_ready else ready, version)


def read_quickly(speaker: Speaker[R, F], request: R, limits: Limits) -> tuple[F, Decoded]:
    """Read a request, unless other requests would have to wait for that: then TooSlow, and `read` belongs in a thread.

    A short body may hold a large image: what is quick, decoding finds out. Raises InputError.
    """
    if len(request.body) > QUICK_BYTES and not speaker.is_plain(request):
        raise TooSlow(len(request.body))
    return speaker.read(request, limits, QUICK_PIXELS)


class Options(Protocol):
    """What a head says beside the body."""

    prepare: str
    url: bytes


def preparation(head: Options, default: Mode) -> Mode:
    """How a request's images are to be prepared: as the query says, else the header, else the setting.

    Raises BadParameter.
    """
    mode = parse_mode(head.prepare) if head.prepare else default  # wrong is wrong, even where the query wins
    if b"prepare" in head.url:
        query = dict(parse_qsl(head.url.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
        if "prepare" in query:
            mode = parse_mode(query["prepare"])
    return mode


def check_encoding(content_encoding: str) -> None:
    """Raise UnsupportedMediaType where a body is packed: what is in it would be unknown before it is unpacked."""
    if content_encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"content-encoding {content_encoding[:20]!r}: send the body as it is, unpacked")


def refuse_bad(decoded: Decoded) -> Decoded:
    """The images where all are good, for answers that have no room for an error among them.

    Raises the error of the first bad one, which then names its place.
    """
    if decoded.errors:
        place = min(decoded.errors)
        error = decoded.errors[place]
        raise type(error)(f"image {place}: {error.message}")
    return decoded


def answer_error(url: bytes, error: FashionMNISTError) -> Answer:
    """An error in the words of the protocol that a path belongs to."""
    if url.startswith((b"/v2", b"/v1")):
        return Answer(error.status, JSON, json.dumps({"error": error.message}).encode())
    return answer_native_error(error)
