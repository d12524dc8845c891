"""The API: what is done with a request, until its answer is sent."""

import asyncio
import functools
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fashion_mnist.errors import FashionMNISTError, MethodNotAllowed, NotFound, Overloaded, Unavailable
from fashion_mnist.images import NOTHING, Decoded
from fashion_mnist.predictions import JSON, Answer
from fashion_mnist.settings import Settings
from gateway import openapi
from gateway.batching import Batcher, Job
from gateway.connection import RETRY_AFTER, Request, Server
from gateway.grpc_call import Call
from gateway.health import Health
from gateway.metrics import Metrics
from gateway.protocols import Exchange, Form, Page, Speaker, native, oip_grpc, oip_rest, read_quickly, v1

log = logging.getLogger(__name__)

QUICK_IMAGES: Final = 64
"""Answers to more images than these are written in a thread; they take some 4 us an image."""

SLOW_AT_ONCE: Final = 64
"""Requests that may wait for a thread; one more is refused."""

_TIMED: Final = (
    "X-Request-Id: %s\r\n"
    "Server-Timing: parse;dur=%.3f, decode;dur=%.3f, queue;dur=%.3f, engine;dur=%.3f, encode;dur=%.3f\r\n"
)
"""The headers of a prediction; https://www.w3.org/TR/server-timing/, in milliseconds."""

_NO_STORE: Final = "Cache-Control: no-store\r\n"
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


class Service:
    """One gateway: it decodes, puts images into the line for the engine, and answers."""

    def __init__(
        self, settings: Settings, batcher: Batcher, health: Health, metrics: Metrics, model_version: str
    ) -> None:
        self.server = Server(settings, self.handle)
        self.server.on_refusal = lambda error: metrics.refuse(error.code)
        self.batcher = batcher
        self.health = health
        self.metrics = metrics
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="slow")
        self._slow = 0
        prefix = os.urandom(4).hex()
        self._request_ids = (f"{prefix}-{number:x}" for number in itertools.count())
        self._speakers: dict[bytes, Speaker[Any, Any]] = {
            native.PATH: native.Native(model_version),
            **dict.fromkeys(oip_rest.paths(model_version, "/infer"), oip_rest.OipRest(model_version)),
            **dict.fromkeys(v1.paths(model_version, ":predict"), v1.V1()),
        }
        self._grpc = oip_grpc.OipGrpc(model_version)
        pages = {**oip_rest.pages(model_version), **v1.pages(model_version), **openapi.pages(model_version)}
        self._pages: dict[bytes, Callable[[Request], None]] = {
            **{path: functools.partial(self._show, page) for path, page in pages.items()},
            b"/health/live": self._live,
            b"/health/ready": self._ready,
            b"/health/startup": self._startup,
            b"/ping": self._ping,
        }

    def handle(self, request: Request) -> None:
        """Answer a request, now or later."""
        self._name(request)
        path = request.url.partition(b"?")[0]
        if speaker := self._speakers.get(path):
            if request.method in (b"POST", b"PUT"):  # curl -T puts
                self.predict(speaker, request)
            else:
                self.refuse(request, MethodNotAllowed("send images here by POST"), "Allow: POST, PUT\r\n")
        elif page := self._pages.get(path):
            if request.method in (b"GET", b"HEAD"):
                page(request)
            else:
                self.refuse(request, MethodNotAllowed("ask by GET"), "Allow: GET, HEAD\r\n")
        else:
            self.refuse(request, NotFound("there is nothing here: GET /openapi.json says what there is and where"))

    def handle_call(self, call: Call) -> None:
        """Answer a call of gRPC, now or later."""
        self._name(call)
        try:
            if call.url == oip_grpc.INFER:
                self.predict(self._grpc, call)
            elif said := self._grpc.say(call.url, call.body, self.health.ready):
                call.answer(said)
            else:
                self.refuse(call, MethodNotAllowed(f"there is no such call: there are those of {oip_grpc.SERVICE}"))
        except FashionMNISTError as error:
            self.refuse(call, error)

    def predict(self, speaker: Speaker[Any, Any], request: Exchange) -> None:
        """Answer a request to predict, in the words of its protocol."""
        _Prediction(self, speaker, request).begin()

    def refuse(self, request: Exchange, error: FashionMNISTError, headers: str = "") -> None:
        """Answer with an error."""
        if isinstance(error, Overloaded | Unavailable):
            headers += RETRY_AFTER
        self.metrics.refuse(error.code)
        if error.status >= 500 and not isinstance(error, Unavailable):
            log.error("request failed", extra={"request_id": request.request_id, "code": error.code})
        request.answer_error(error, f"X-Request-Id: {request.request_id}\r\n{headers}")

    def _name(self, request: Exchange) -> None:
        """Give a request an id, unless it has a good one."""
        if not (request.request_id and _REQUEST_ID.fullmatch(request.request_id)):
            request.request_id = next(self._request_ids)

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

    def _show(self, page: Page, request: Request) -> None:
        request.answer(page.ready if self.health.ready else page.not_ready, _NO_STORE)

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
        request.answer(Answer(status, JSON, body), _NO_STORE)


class _Prediction:
    """One request to predict, step by step: read, in line, computed, answered."""

    __slots__ = ("_decoded", "_decoded_at", "_form", "_request", "_service", "_speaker")

    def __init__(self, service: Service, speaker: Speaker[Any, Any], request: Exchange) -> None:
        self._service = service
        self._speaker = speaker
        self._request = request
        self._decoded = NOTHING

    def begin(self) -> None:
        """Decode the images, or refuse."""
        service = self._service
        try:
            # Neither may cost us anything: it is when there is too much to do that they are needed.
            if not service.health.answers:
                raise Unavailable(f"not ready: {service.health.reason}")
            service.batcher.check_room()
            found = read_quickly(self._speaker, self._request, service.server.limits)
            if found is None:
                service.in_thread(self._was_read, self._speaker.read, self._request, service.server.limits)
            else:
                self._submit(*found)
        except FashionMNISTError as error:
            service.refuse(self._request, error)

    def _was_read(self, found: tuple[Form, Decoded] | BaseException) -> None:
        try:
            if isinstance(found, tuple):
                self._submit(*found)
            else:
                raise found
        except FashionMNISTError as error:
            self._service.refuse(self._request, error)
        except Exception:
            self._fail("a request could not be decoded")

    def _submit(self, form: Form, decoded: Decoded) -> None:
        self._decoded_at = time.perf_counter()
        self._form, self._decoded = form, decoded
        job = Job(decoded.pixels, self._computed)
        if not len(decoded.pixels):
            # All of them are bad: there is nothing to compute, and the answer says why.
            self._send(job, self._speaker.write(job.probabilities, decoded, form))
        elif not self._request.gone:
            self._request.on_gone = job.cancel
            self._service.batcher.submit(job)

    def _computed(self, job: Job, error: FashionMNISTError | None) -> None:
        service = self._service
        if error is not None:
            service.refuse(self._request, error)
            return
        arguments = (job.probabilities, self._decoded, self._form)
        if len(self._decoded) <= QUICK_IMAGES or self._form.octets:
            self._send(job, self._speaker.write(*arguments))
            return
        try:
            service.in_thread(lambda written: self._written(job, written), self._speaker.write, *arguments)
        except Overloaded as overloaded:
            service.refuse(self._request, overloaded)

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
        request.answer(
            answer,
            _TIMED % (request.request_id, parse * 1e3, decode * 1e3, queue * 1e3, engine * 1e3, encode * 1e3),
        )
        errors = self._decoded.errors
        code = "ok" if answer.status == 200 else errors[min(errors)].code
        self._service.metrics.answer(code, (now - request.started, parse, decode, queue, engine, encode))

    def _fail(self, what: str) -> None:
        log.exception(what, extra={"request_id": self._request.request_id})
        self._service.refuse(self._request, FashionMNISTError("the request failed, which is not your fault: report it"))
