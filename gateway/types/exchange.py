"""Requests independent of their transport, and the codecs of protocols."""

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
    """A request by HTTP or gRPC that can be answered."""

    body: bytes
    started: float
    received: float
    cancelled: bool
    on_cancel: Callable[[], None] | None
    span: "Span | None"

    @property
    def expires(self) -> float:
        """The client's deadline, by `time.perf_counter`; infinity if it has none."""

    @property
    def url(self) -> bytes:
        """Path and query, or the name of a gRPC method."""

    @property
    def traceparent(self) -> str:
        """The caller's span, by https://www.w3.org/TR/trace-context/."""

    @property
    def tracestate(self) -> str:
        """The header of that name, by the same specification."""

    @property
    def request_id(self) -> bytes:
        """The id in answers and logs."""

    def answer(self, answer: Answer, headers: bytes = b"") -> None:
        """Send the answer, once; `headers` are complete lines."""

    def answer_error(self, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Send an error instead, in the format of the request's protocol."""


class Form(Protocol):
    """The requested form of an answer; each protocol has its own."""

    @property
    def binary(self) -> bool:
        """Whether the answer is raw numbers, which take negligible time to write."""


R = TypeVar("R", bound=Exchange, contravariant=True)
F = TypeVar("F", bound=Form)
F_co = TypeVar("F_co", bound=Form, covariant=True)


class BodyReader(Protocol[R, F_co]):
    """Decodes the images of a request."""

    def is_plain(self, request: R) -> bool:
        """Whether a long request has raw pixels, which take negligible time to read."""

    def read(self, request: R, limits: Limits, allowance: float = inf) -> tuple[F_co, Decoded]:
        """The form of the answer, and the images. Raises InputError if the request as a whole is invalid.

        Raises TooSlow if decoding costs more than the allowance, in pixels.
        """


class Codec(BodyReader[R, F], Protocol[R, F]):
    """One protocol's format of prediction requests and answers."""

    def write(self, job: Job, decoded: Decoded, form: F) -> Answer:
        """The answer. `job` has the probabilities of `decoded.pixels`."""
