"""The API: what is done with a request, until its answer is sent."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fashion_mnist.errors import FashionMNISTError, MethodNotAllowed, NotFound, Overloaded, Unavailable
from fashion_mnist.images import Decoded
from fashion_mnist.predictions import JSON, Answer, Form, answer, answer_error
from fashion_mnist.settings import Settings
from gateway.batching import Batcher, Job
from gateway.connection import RETRY_AFTER, Head, Request, Server
from gateway.health import Health
from gateway.metrics import Metrics
from gateway.prediction_request import Wanted, quick_limits, read, read_quickly, understand

log = logging.getLogger(__name__)

PREDICTIONS: Final = b"/predictions/fashion_mnist"

QUICK_IMAGES: Final = 64
"""Answers to more images than these are written in a thread; they take some 4 us an image."""

SLOW_AT_ONCE: Final = 64
"""Requests that may wait for a thread; one more is refused."""

_TIMED: Final = (
    b"X-Request-Id: %b\r\n"
    b"Server-Timing: parse;dur=%.3f, decode;dur=%.3f, queue;dur=%.3f, engine;dur=%.3f, encode;dur=%.3f\r\n"
)
"""The headers of a prediction; https://www.w3.org/TR/server-timing/, in milliseconds."""


_WHOLE: Final = Form()


class Service:
    """One gateway: it decodes, puts images into the line for the engine, and answers."""

    def __init__(
        self, settings: Settings, batcher: Batcher, health: Health, metrics: Metrics, model_version: str
    ) -> None:
        self.server = Server(settings, self.handle)
        self.server.on_refusal = lambda error: metrics.refuse(error.code)
        self.quick_limits = quick_limits(self.server.limits)
        self.batcher = batcher
        self.health = health
        self.metrics = metrics
        self.model_version = model_version
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="slow")
        self._slow = 0
        self._pages = {
            b"/health/live": self._live,
            b"/health/ready": self._ready,
            b"/health/startup": self._startup,
            b"/ping": self._ping,
        }

    def handle(self, request: Request) -> None:
        """Answer a request, now or later."""
        head = request.head
        if head.route is None:
            head.route = self._route(head)
        head.route(request)

    def refuse(self, request: Request, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Answer with an error."""
        if isinstance(error, Overloaded | Unavailable):
            headers += RETRY_AFTER
        self.metrics.refuse(error.code)
        if error.status >= 500 and not isinstance(error, Unavailable):
            log.error("request failed", extra={"request_id": request.request_id.decode(), "code": error.code})
        request.answer(answer_error(error), b"X-Request-Id: %b\r\n%b" % (request.request_id, headers))

    def in_thread(self, then: Callable[[Any], None], function: Callable[..., Any], *arguments: Any) -> None:
        """Do what takes long beside the event loop; `then` gets its result, or its exception, on the loop.

        Raises Overloaded where too much waits for that already.
        """
        if self._slow >= SLOW_AT_ONCE:
            raise Overloaded("too many large requests at once: send it again a moment later")

        def done(future: "asyncio.Future[Any]") -> None:
            self._slow -= 1
            then(future.exception() or future.result())

        self._slow += 1
        asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments).add_done_callback(done)

    def _route(self, head: Head) -> Callable[[Request], None]:
        """What answers requests with this head."""
        path = head.url.partition(b"?")[0]
        if path == PREDICTIONS:
            if head.method not in (b"POST", b"PUT"):  # curl -T puts
                return self._refusal(MethodNotAllowed("send images here by POST"), b"Allow: POST, PUT\r\n")
            try:
                wanted = understand(head)
            except FashionMNISTError as error:
                return self._refusal(error)
            return lambda request: predict(self, request, wanted)
        if page := self._pages.get(path):
            if head.method not in (b"GET", b"HEAD"):
                return self._refusal(MethodNotAllowed("ask by GET"), b"Allow: GET, HEAD\r\n")
            return page
        return self._refusal(
            NotFound(f"there are POST {PREDICTIONS.decode()} and GET /health/live, /health/ready, /health/startup")
        )

    def _refusal(self, error: FashionMNISTError, headers: bytes = b"") -> Callable[[Request], None]:
        return lambda request: self.refuse(request, error, headers)

    def _live(self, request: Request) -> None:
        self._say(request, 200, "live", "")

    def _ready(self, request: Request) -> None:
        if self.health.ready:
            self._say(request, 200, "ready", "")
        else:
            self._say(request, 503, "not ready", self.health.reason)

    def _startup(self, request: Request) -> None:
        if self.health.started.is_set():
            self._say(request, 200, "started", "")
        else:
            self._say(request, 503, "starting", self.health.reason)

    def _ping(self, request: Request) -> None:
        # TorchServe's page, and its words; but here they are true.
        if self.health.ready:
            self._say(request, 200, "Healthy", "")
        else:
            self._say(request, 503, "Unhealthy", self.health.reason)

    def _say(self, request: Request, status: int, word: str, reason: str) -> None:
        body = json.dumps({"status": word, **({"reason": reason} if reason else {})}).encode()
        request.answer(Answer(status, JSON, body), b"Cache-Control: no-store\r\n")


def predict(service: Service, request: Request, wanted: Wanted) -> None:
    """Read a request's images and put them into line, or refuse."""
    try:
        # Neither may cost us anything: it is when there is too much to do that they are needed.
        if not service.health.answers:
            raise Unavailable(f"not ready: {service.health.reason}")
        service.batcher.check_room()
        found = read_quickly(wanted, request.body, service.server.limits, service.quick_limits)
        if found is not None:
            _submit(service, request, found)
        else:
            service.in_thread(
                lambda found: _submit_read(service, request, found), read, wanted, request.body, service.server.limits
            )
    except FashionMNISTError as error:
        service.refuse(request, error)


def _submit_read(service: Service, request: Request, found: tuple[Form, Decoded] | BaseException) -> None:
    """Go on where a thread has read the request, or failed to."""
    try:
        if isinstance(found, BaseException):
            raise found
        _submit(service, request, found)
    except FashionMNISTError as error:
        service.refuse(request, error)
    except Exception as error:
        _fail(service, request, "a request could not be decoded", error)


def _submit(service: Service, request: Request, found: tuple[Form, Decoded]) -> None:
    prediction = _Prediction(service, request, *found)
    if not prediction.waiting:
        # All of them are bad: there is nothing to compute, and the answer says why.
        prediction.done(None)
    elif not request.gone:
        request.on_gone = prediction.cancel
        service.batcher.submit(prediction)


class _Prediction(Job):
    """One request's images on their way, and its answer when they are back."""

    __slots__ = ("_decoded", "_form", "_request", "_service")

    def __init__(self, service: Service, request: Request, form: Form, decoded: Decoded) -> None:
        super().__init__(decoded.pixels)
        self._service = service
        self._request = request
        self._form = form
        self._decoded = decoded

    def done(self, error: FashionMNISTError | None) -> None:
        """Write the answer, and send it."""
        service, form, decoded = self._service, self._form, self._decoded
        if error is not None:
            service.refuse(self._request, error)
        elif len(decoded) <= QUICK_IMAGES or form.octets:
            rows = self.rows() if form == _WHOLE else None
            self._send(answer(self.probabilities, decoded, service.model_version, form, rows))
        else:
            try:
                service.in_thread(self._written, answer, self.probabilities, decoded, service.model_version, form)
            except Overloaded as overloaded:
                service.refuse(self._request, overloaded)

    def _written(self, written: Answer | BaseException) -> None:
        if isinstance(written, Answer):
            self._send(written)
        else:
            _fail(self._service, self._request, "an answer could not be written", written)

    def _send(self, answer: Answer) -> None:
        request = self._request
        now = time.perf_counter()
        started, received, decoded = request.started, request.received, self.queued
        # A request without a good image was never in line.
        left, back = (self.started, self.ended) if self.ended else (decoded, decoded)
        times = (now - started, received - started, decoded - received, left - decoded, back - left, now - back)
        request.answer(answer, _TIMED % (request.request_id, *[1e3 * part for part in times[1:]]))
        errors = self._decoded.errors
        code = "ok" if answer.status == 200 else errors[min(errors)].code
        self._service.metrics.answer(code, times)


def _fail(service: Service, request: Request, what: str, error: BaseException) -> None:
    log.error(what, exc_info=error, extra={"request_id": request.request_id.decode()})
    service.refuse(request, FashionMNISTError("the request failed, which is not your fault: report it"))
