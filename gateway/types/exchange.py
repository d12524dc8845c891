"""A request and the way back, whatever the transport; and what a protocol makes of it."""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeVar

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.predictions import Answer
from gateway.types.job import Job

if TYPE_CHECKING:
    from opentelemetry.trace import Span


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
    def binary(self) -> bool:
        """Whether the answer is numbers as they are, written in no time whatever their number."""


R = TypeVar("R", bound=Exchange, contravariant=True)
F = TypeVar("F", bound=Form)
F_co = TypeVar("F_co", bound=Form, covariant=True)


class BodyReader(Protocol[R, F_co]):
    """What makes images of a request."""

    def is_plain(self, request: R) -> bool:
        """Whether a long request holds pixels as they are, so that reading it takes no time whatever its length."""

    def read(self, request: R, limits: Limits, allowance: float = inf) -> tuple[F_co, Decoded]:
        """The form of the answer, and the images. Raises InputError where the request as a whole is at fault.

        What costs more pixels than the allowance raises TooSlow.
        """


class Codec(BodyReader[R, F], Protocol[R, F]):
    """One protocol's way to predict."""

    def write(self, job: Job, decoded: Decoded, form: F) -> Answer:
        """The answer; the job has the probabilities of `decoded.pixels`."""
