"""The API: what is done with a request, until its answer is sent."""

import asyncio
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from fashion_mnist.errors import FashionMNISTError, MethodNotAllowed, NotFound, Overloaded, Unavailable
from fashion_mnist.images import NOTHING, Decoded
from fashion_mnist.predictions import JSON, Answer, Form, answer, answer_error
from fashion_mnist.settings import Settings
from gateway.batching import Batcher, Job
from gateway.connection import Request, Server, headers_of
from gateway.cors import PREFLIGHT
from gateway.health import Health
from gateway.keys import PREDICT, Keyring
from gateway.metrics import Metrics
from gateway.prediction_request import read, read_quickly

if TYPE_CHECKING:
    from gateway.traces import Traces

log = logging.getLogger(__name__)

PREDICTIONS: Final = b"/predictions/fashion_mnist"

QUICK_IMAGES: Final = 64
"""Answers to more images than these are written in a thread; they take some 4 us an image."""

SLOW_AT_ONCE: Final = 64
"""Requests that may wait for a thread; one more is refused."""

_TIMED: Final = (
    "X-Request-Id: %s\r\n"
    "Server-Timing: parse;dur=%.3f, decode;dur=%.3f, queue;dur=%.3f, engine;dur=%.3f, encode;dur=%.3f\r\n"
)
"""The headers of a prediction; https://www.w3.org/TR/server-timing/, in milliseconds."""

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


class Service:
    """One gateway: it decodes, puts images into the line for the engine, and answers."""

    def __init__(
        self,
        settings: Settings,
        batcher: Batcher,
        health: Health,
        metrics: Metrics,
        model_version: str,
        keyring: Keyring | None = None,
        traces: "Traces | None" = None,
    ) -> None:
        """`keyring` has the keys of which each request must carry one; None lets everybody in.

        `traces` notes down what becomes of some requests, where that is wanted.
        """
        self.server = Server(settings, self.handle)
        self.server.on_refusal = lambda error: metrics.refuse(error.code)
        self.batcher = batcher
        self.health = health
        self.metrics = metrics
        self.model_version = model_version
        self.traces = traces
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="slow")
        self._slow = 0
        prefix = os.urandom(4).hex()
        self._request_ids = (f"{prefix}-{number:x}" for number in itertools.count())
        self._pages = {
            b"/health/live": self._live,
            b"/health/ready": self._ready,
            b"/health/startup": self._startup,
            b"/ping": self._ping,
        }
        self._keyring = keyring
        if keyring is not None:
            self.server.admit = self._admit

    def handle(self, request: Request) -> None:
        """Answer a request, now or later."""
        if not (request.request_id and _REQUEST_ID.fullmatch(request.request_id)):
            request.request_id = next(self._request_ids)
        path = request.url.partition(b"?")[0]
        if request.method == b"OPTIONS" and request.origin and self.server.cors(request.origin):
            request.answer(Answer(200, JSON, b""), PREFLIGHT)
        elif path == PREDICTIONS:
            if request.method in (b"POST", b"PUT"):  # curl -T puts
                _Prediction(self, request).begin()
            else:
                self.refuse(request, MethodNotAllowed("send images here by POST"), "Allow: POST, PUT\r\n")
        elif page := self._pages.get(path):
            if request.method in (b"GET", b"HEAD"):
                page(request)
            else:
                self.refuse(request, MethodNotAllowed("ask by GET"), "Allow: GET, HEAD\r\n")
        else:
            self.refuse(
                request, NotFound(f"there are POST {PREDICTIONS.decode()} and GET /health/live, ready, startup")
            )

    def _admit(self, request: Request) -> FashionMNISTError | None:
        if self._keyring is None or (error := self._keyring.refusal(request.authorization, PREDICT)) is None:
            return None
        # Load balancers ask for health, and browsers whether they may ask, without a key.
        is_open = request.method == b"OPTIONS" or request.url.partition(b"?")[0] in self._pages
        return None if is_open else error

    def refuse(self, request: Request, error: FashionMNISTError, headers: str = "") -> None:
        """Answer with an error."""
        self.metrics.refuse(error.code)
        if error.status >= 500 and not isinstance(error, Unavailable):
            log.error("request failed", extra={"request_id": request.request_id, "code": error.code})
        request.answer(answer_error(error), f"X-Request-Id: {request.request_id}\r\n{headers_of(error)}{headers}")

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
        request.answer(Answer(status, JSON, body), "Cache-Control: no-store\r\n")


class _Prediction:
    """One request to predict, step by step: read, in line, computed, answered."""

    __slots__ = ("_decoded", "_decoded_at", "_form", "_job", "_request", "_service", "_span")

    def __init__(self, service: Service, request: Request) -> None:
        self._service = service
        self._request = request
        self._decoded = NOTHING
        self._span = None if service.traces is None else service.traces.begin(request)

    def begin(self) -> None:
        """Decode the images, or refuse."""
        service = self._service
        try:
            # Neither may cost us anything: it is when there is too much to do that they are needed.
            if not service.health.answers:
                raise Unavailable(f"not ready: {service.health.reason}")
            service.batcher.check_room()
            found = read_quickly(self._request, service.server.limits)
            if found is None:
                service.in_thread(self._was_read, read, self._request, service.server.limits)
            else:
                self._submit(*found)
        except FashionMNISTError as error:
            self._refuse(error)

    def _was_read(self, found: tuple[Form, Decoded] | BaseException) -> None:
        try:
            if isinstance(found, tuple):
                self._submit(*found)
            else:
                raise found
        except FashionMNISTError as error:
            self._refuse(error)
        except Exception:
            self._fail("a request could not be decoded")

    def _submit(self, form: Form, decoded: Decoded) -> None:
        self._decoded_at = time.perf_counter()
        self._form, self._decoded = form, decoded
        job = Job(decoded.pixels, self._computed, self._span)
        if not len(decoded.pixels):
            # All of them are bad: there is nothing to compute, and the answer says why.
            self._send(job, answer(job.probabilities, decoded, self._service.model_version, form))
        elif not self._request.gone:
            self._request.on_gone = job.cancel
            self._service.batcher.submit(job)

    def _computed(self, job: Job, error: FashionMNISTError | None) -> None:
        service = self._service
        if error is not None:
            self._refuse(error)
            return
        arguments = (job.probabilities, self._decoded, service.model_version, self._form)
        if len(self._decoded) <= QUICK_IMAGES or self._form.octets:
            self._send(job, answer(*arguments))
            return
        try:
            service.in_thread(lambda written: self._written(job, written), answer, *arguments)
        except Overloaded as overloaded:
            self._refuse(overloaded)

    def _written(self, job: Job, written: Answer | BaseException) -> None:
        if isinstance(written, Answer):
            self._send(job, written)
        else:
            self._fail("an answer could not be written")

    def _send(self, job: Job, answer: Answer) -> None:
        request = self._request
        now = time.perf_counter()
        parse = request.received - request.started
        decode = self._decoded_at - request.received
        # A request without a good image was never in line.
        queue, engine, encode = job.started - job.queued, job.ended - job.started, now - job.ended
        if not job.ended:
            queue, engine, encode = 0.0, 0.0, now - self._decoded_at
        headers = _TIMED % (request.request_id, parse * 1e3, decode * 1e3, queue * 1e3, engine * 1e3, encode * 1e3)
        if self._span is not None and self._service.traces is not None:
            ends = (job.started, job.ended) if job.ended else (self._decoded_at, self._decoded_at)
            moments = (request.started, request.received, self._decoded_at, *ends, now)
            self._service.traces.end(self._span, answer.status, len(self._decoded), moments)
            headers += self._service.traces.headers(self._span)
        request.answer(answer, headers)
        errors = self._decoded.errors
        code = "ok" if answer.status == 200 else errors[min(errors)].code
        self._service.metrics.answer(code, (now - request.started, parse, decode, queue, engine, encode))

    def _fail(self, what: str) -> None:
        log.exception(what, extra={"request_id": self._request.request_id})
        self._refuse(FashionMNISTError("the request failed, which is not your fault: report it"))

    def _refuse(self, error: FashionMNISTError) -> None:
        if self._span is not None and self._service.traces is not None:
            self._service.traces.fail(self._span, error)
        self._service.refuse(self._request, error)
