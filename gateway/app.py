"""The API: routes requests, runs predictions and sends answers."""

import functools
import json
import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fashion_mnist.classes import IMAGE_BYTES
from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import TooSlow
from fashion_mnist.errors import FashionMNISTError, MethodNotAllowed, NotFound, Overloaded, RequestTimeout, Unavailable
from fashion_mnist.predictions import JSON, Answer
from fashion_mnist.settings import Settings
from gateway.http.cors import PREFLIGHT
from gateway.http.keys import PREDICT, Keyring
from gateway.http.server import RequestInfo, Server
from gateway.models.health import Health
from gateway.models.registry import NATIVE, OIP_GRPC, OIP_REST, V1, Model, Models, Route
from gateway.models.suspects import InFlight
from gateway.observability.metrics import Metrics
from gateway.observability.traffic import Traffic
from gateway.protocols import explain, native, oip_grpc, oip_rest, openapi, v1
from gateway.protocols.reading import read_quickly
from gateway.slow_work import SlowWork
from gateway.types.errors import headers_of
from gateway.types.exchange import Codec, Exchange, Form
from gateway.types.job import TOO_LATE, Job
from gateway.types.page import Page
from gateway.types.request import Head, Request
from gateway.types.timing import TIMED
from gateway.web import routes as web
from gateway.web.explaining import Explaining
from gateway.web.routes import Web

if TYPE_CHECKING:
    from gateway.observability.traces import Traces

log = logging.getLogger(__name__)

OPEN: Final = frozenset(
    (b"/health/live", b"/health/ready", b"/health/startup", b"/ping", b"/v2/health/live", b"/v2/health/ready")
).union(oip_grpc.HEALTH, web.OPEN, {openapi.PATH})
"""Paths that need no key, for load balancers and for people who have none yet."""

QUICK_IMAGES: Final = 64
"""Answers to more images are written in a thread; writing takes some 4 us per image."""

QUEUED_REQUEST_BUDGETS: Final = 4
"""The queue for threads is limited to this many requests of the maximum cost, or more of cheaper ones."""

"""What precedes a version in a path."""

_NO_STORE: Final = b"Cache-Control: no-store\r\n"


class Service:
    """One gateway: it decodes requests, queues their images for the engine, and answers."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        metrics: Metrics,
        traffic: Traffic,
        in_flight: InFlight,
        keyring: Keyring | None = None,
        traces: "Traces | None" = None,
    ) -> None:
        """With a `keyring`, each request must carry one of its keys. With `traces`, requests are traced."""
        self.server = Server(settings, self.handle)
        self.server.on_refusal = lambda error: metrics.refuse(error.code)
        self.models = models
        self._task = models.task
        self._version_prefixes = tuple(module.path_of(self._task, "") for module in (native, oip_rest, v1))
        """What stands before a version in a path."""
        self.metrics = metrics
        self.in_flight = in_flight
        self.traces = traces
        self._keyring = keyring
        if keyring is not None:
            self.server.admit = self._admit
        self.slow = SlowWork(QUEUED_REQUEST_BUDGETS * self.server.limits.max_pixels)
        self._web = Web(settings, models, traffic, keyring, self.refuse)
        self._explaining = Explaining(models, self.slow, self.server.limits, self.refuse)
        models.on_change = self._change
        self._change()

    @property
    def health(self) -> Health:
        """The health of the default version."""
        return self.models.default.health

    def close(self) -> None:
        """Begin nothing more: the process is about to end."""
        self._explaining.close()

    def handle(self, request: Request) -> None:
        """Answer a request, at once or later."""
        head = request.head
        if head.route is None:
            head.route = self._route(head)
        head.route(request)

    def handle_call(self, call: Exchange) -> None:
        """Answer a gRPC call, at once or later."""
        try:
            if call.url == oip_grpc.INFER:
                version = oip_grpc.version_of(self._task, call.body)
                routes = self.models.find(version).routes if version else self.models.routes
                predict(self, routes[OIP_GRPC], call)
            elif answer := oip_grpc.answer_metadata(self._task, call.url, call.body, self.models.offered):
                call.answer(answer)
            else:
                self.refuse(
                    call, MethodNotAllowed(f"{oip_grpc.SERVICE} has no such call: list its calls by reflection")
                )
        except FashionMNISTError as error:
            self.refuse(call, error)

    def _admit(self, request: RequestInfo) -> FashionMNISTError | None:
        if self._keyring is None or (error := self._keyring.refusal(request.authorization, PREDICT)) is None:
            return None
        # Preflight requests carry no key. (gRPC calls are POST.)
        path = request.url.partition(b"?")[0]
        return None if request.method == b"OPTIONS" or path in OPEN or path.startswith(web.FILES) else error

    def refuse(self, request: Exchange, error: FashionMNISTError, headers: bytes = b"") -> None:
        """Answer with an error."""
        if request.span is not None and self.traces is not None:
            self.traces.fail(request.span, error)
        self.metrics.refuse(error.code)
        if error.status >= 500 and not isinstance(error, Unavailable):
            log.error("request failed", extra={"request_id": request.request_id.decode(), "code": error.code})
        request.answer_error(error, b"X-Request-Id: %b\r\n%b%b" % (request.request_id, headers_of(error), headers))

    def _change(self) -> None:
        """Rebuild the routes, because the loaded versions or the default have changed."""
        routes, offered, task = self.models.routes, self.models.offered, self._task
        self._routes: dict[bytes, Route] = {
            native.path(task): routes[NATIVE],
            oip_rest.path(task) + oip_rest.INFER: routes[OIP_REST],
            v1.path(task) + v1.PREDICT: routes[V1],
        }
        states = {v1.path(task): ""}
        for name, model in self.models.open.items():
            self._routes[native.path_of(task, name)] = model.routes[NATIVE]
            self._routes[oip_rest.path_of(task, name) + oip_rest.INFER] = model.routes[OIP_REST]
            self._routes[v1.path_of(task, name) + v1.PREDICT] = model.routes[V1]
            states[v1.path_of(task, name)] = name
        pages = {
            **oip_rest.pages(task, offered),
            **v1.pages(task),
            **openapi.pages(task, offered, page=self._web.on),
        }
        self._pages: dict[bytes, Callable[[Request], None]] = {
            **{path: functools.partial(self._show, page) for path, page in pages.items()},
            **{path: functools.partial(self._show_state, version) for path, version in states.items()},
            b"/health/live": self._live,
            b"/health/ready": self._ready,
            b"/health/startup": self._startup,
            b"/ping": self._ping,
        }

    def _route(self, head: Head) -> Callable[[Request], None]:
        """The function that answers requests with this head."""
        path = head.url.partition(b"?")[0]
        if head.method == b"OPTIONS" and head.origin and self.server.cors(head.origin):
            return lambda request: request.answer(Answer(200, JSON, b""), PREFLIGHT)
        if path.startswith(self._version_prefixes):
            # Versions change while heads are cached: look the route up for each request.
            return lambda request: self._find(request.head, path)(request)
        return self._find(head, path)

    def _find(self, head: Head, path: bytes) -> Callable[[Request], None]:
        if route := self._routes.get(path):
            if head.method not in (b"POST", b"PUT"):  # curl -T puts
                return self._refusal(MethodNotAllowed("send images by POST"), b"Allow: POST, PUT\r\n")
            return functools.partial(predict, self, route)
        if path == explain.PATH and self._web.on:
            if head.method not in (b"POST", b"PUT"):
                return self._refusal(MethodNotAllowed("send an image by POST"), b"Allow: POST, PUT\r\n")
            return self._explaining.explain
        if page := self._pages.get(path) or self._web.find(path):
            if head.method not in (b"GET", b"HEAD"):
                return self._refusal(MethodNotAllowed("use GET"), b"Allow: GET, HEAD\r\n")
            return page
        for prefix in self._version_prefixes:
            if path.startswith(prefix):
                name = re.split(b"[/:]", path[len(prefix) :])[0].decode("latin-1")
                try:
                    self.models.find(name)
                except NotFound as error:
                    return self._refusal(error)
        return self._refusal(NotFound("unknown path: GET /openapi.json lists all paths"))

    def _refusal(self, error: FashionMNISTError, headers: bytes = b"") -> Callable[[Request], None]:
        return lambda request: self.refuse(request, error, headers)

    def _show(self, page: Page, request: Request) -> None:
        offered = self.models.offered
        request.answer(page.ready if offered.ready[page.version or offered.default] else page.not_ready, _NO_STORE)

    def _show_state(self, version: str, request: Request) -> None:
        request.answer(v1.state(self._task, self.models.offered, version), _NO_STORE)

    def _live(self, request: Request) -> None:
        self._respond(request, 200, "live", "")

    def _ready(self, request: Request) -> None:
        if self.health.ready:
            self._respond(request, 200, "ready", "")
        else:
            self._respond(request, 503, "not ready", self.health.reason)

    def _startup(self, request: Request) -> None:
        if self.health.started.is_set():
            self._respond(request, 200, "started", "")
        else:
            self._respond(request, 503, "starting", self.health.reason)

    def _ping(self, request: Request) -> None:
        # TorchServe's path and words.
        if self.health.ready:
            self._respond(request, 200, "Healthy", "")
        else:
            self._respond(request, 503, "Unhealthy", self.health.reason)

    def _respond(self, request: Request, status: int, word: str, reason: str) -> None:
        body = json.dumps({"status": word, **({"reason": reason} if reason else {})}).encode()
        request.answer(Answer(status, JSON, body), _NO_STORE)


def predict(service: Service, route: Route, request: Exchange) -> None:
    """Decode a request's images by its protocol and queue them for the engine, or refuse the request."""
    # Kept for the whole request, even if the default changes meanwhile.
    model, codec = route.model, route.codec
    if service.traces is not None:
        request.span = service.traces.begin(request)
    try:
        # First what costs nothing, because it matters most under overload.
        if not model.health.answers:
            raise Unavailable(f"not ready: {model.health.reason}")
        model.batcher.check_room()
        try:
            limits = service.server.limits
            if len(request.body) == IMAGE_BYTES:
                found = read_quickly(codec, request, limits)
            else:
                found = service.in_flight.decode(request.body, read_quickly, codec, request, limits)
        except TooSlow as slow:
            read = functools.partial(service.in_flight.decode, request.body, codec.read, request, service.server.limits)
            then = functools.partial(_submit_read, service, model, codec, request)
            service.slow.submit(slow.cost, read, then, functools.partial(_is_late, request))
            model.reading += 1
        else:
            _submit(service, model, codec, request, found)
    except FashionMNISTError as error:
        service.refuse(request, error)


def _is_late(request: Exchange) -> bool:
    """Whether the client has disconnected or its deadline has passed."""
    return request.cancelled or time.perf_counter() >= request.expires


def _submit_read(
    service: Service,
    model: Model,
    codec: Codec[Any, Any],
    request: Exchange,
    found: tuple[Form, Decoded] | BaseException,
) -> None:
    """Continue after a thread has read the request, or failed to."""
    model.reading -= 1
    if request.cancelled:
        return
    if isinstance(request, Request):
        # The decoded images do not refer to the body: free it before the answer is ready.
        service.server.buffered_bytes -= len(request.body)
        request.body = b""
    try:
        if time.perf_counter() >= request.expires:
            raise RequestTimeout(TOO_LATE)
        if isinstance(found, BaseException):
            raise found
        _submit(service, model, codec, request, found)
    except FashionMNISTError as error:
        service.refuse(request, error)
    except Exception as error:
        _fail(service, request, "a request could not be decoded", error)


def _submit(
    service: Service, model: Model, codec: Codec[Any, Any], request: Exchange, found: tuple[Form, Decoded]
) -> None:
    prediction = _Prediction(service, model, codec, request, *found)
    if not prediction.waiting:
        # All images are invalid: there is nothing to compute.
        prediction.done(None)
    elif not request.cancelled:
        request.on_cancel = prediction.cancel
        model.batcher.submit(prediction)


class _Prediction(Job):
    """One request's images on their way through the engine, and its answer."""

    __slots__ = ("_codec", "_decoded", "_form", "_model", "_request", "_service")

    def __init__(
        self,
        service: Service,
        model: Model,
        codec: Codec[Any, Any],
        request: Exchange,
        form: Form,
        decoded: Decoded,
    ) -> None:
        super().__init__(decoded.pixels)
        self.span = request.span
        self.expires = request.expires
        self._service = service
        self._model = model
        self._codec = codec
        self._request = request
        self._form = form
        self._decoded = decoded

    def cancel(self) -> None:
        super().cancel()
        if self.span is not None and self._service.traces is not None:
            self._service.traces.cancel(self.span)

    def done(self, error: FashionMNISTError | None) -> None:
        """Write and send the answer."""
        service, form, decoded = self._service, self._form, self._decoded
        if error is not None:
            service.refuse(self._request, error)
        elif len(decoded) <= QUICK_IMAGES or form.binary:
            self._send(self._codec.write(self, decoded, form))
        else:
            try:
                write = functools.partial(self._codec.write, self, decoded, form)
                late = functools.partial(_is_late, self._request)
                service.slow.submit(len(decoded), lambda allowance: write(), self._written, late)
            except Overloaded as overloaded:
                service.refuse(self._request, overloaded)

    def _written(self, written: Answer | BaseException) -> None:
        if isinstance(written, Answer):
            self._send(written)
        elif isinstance(written, FashionMNISTError):
            self._service.refuse(self._request, written)
        else:
            _fail(self._service, self._request, "an answer could not be written", written)

    def _send(self, answer: Answer) -> None:
        request, service = self._request, self._service
        now = time.perf_counter()
        started, received, decoded = request.started, request.received, self.queued
        # A request without a valid image was never queued.
        left, back = (self.started, self.ended) if self.ended else (decoded, decoded)
        parse, decode, queue = received - started, decoded - received, left - decoded
        engine, encode = back - left, now - back
        # One by one: a loop takes twice as long.
        headers = TIMED % (request.request_id, 1e3 * parse, 1e3 * decode, 1e3 * queue, 1e3 * engine, 1e3 * encode)
        if request.span is not None and service.traces is not None:
            moments = (started, received, decoded, left, back, now)
            service.traces.end(request.span, answer.status, len(self._decoded), moments)
            headers += service.traces.headers(request.span)
        request.answer(answer, headers)
        code = "ok"
        if answer.status != 200:
            errors = self._decoded.errors
            code = errors[min(errors)].code
        service.metrics.answer(code, (now - started, parse, decode, queue, engine, encode))
        self._model.counters.requests += 1


def _fail(service: Service, request: Exchange, what: str, error: BaseException) -> None:
    log.error(what, exc_info=error, extra={"request_id": request.request_id.decode()})
    service.refuse(request, FashionMNISTError("the request failed because of a defect in the service: report it"))
