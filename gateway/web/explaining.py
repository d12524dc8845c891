"""One explanation, from its request to its answer: read like a prediction, computed and written in its own thread."""

import functools
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import Limits, TooSlow
from fashion_mnist.errors import FashionMNISTError, NotFound
from fashion_mnist.predictions import Answer
from gateway.models.explanations import Explanations
from gateway.models.registry import Model, Models
from gateway.protocols.explain import Explain, Form
from gateway.protocols.reading import read_quickly
from gateway.slow_work import SlowWork
from gateway.types.request import Request
from gateway.types.timing import TIMED
from gateway.web.model_files import NAMES, NETWORK

log = logging.getLogger(__name__)

Fail = Callable[[Request, FashionMNISTError], None]


class _Computed(NamedTuple):
    answer: Answer
    began: float
    explained: float
    """When computing began and when it was done, by `time.perf_counter`."""


class Explaining:
    """What answers `/explain`."""

    def __init__(self, models: Models, slow: SlowWork, limits: Limits, fail: Fail) -> None:
        """`fail` refuses a request with an error."""
        self._models = models
        self._slow = slow
        self._limits = limits
        self._fail = fail
        self._queue = Explanations(models.answered)

    def explain(self, request: Request) -> None:
        """Answer a request, later; or refuse it."""
        model = self._models.default
        codec = model.explain
        try:
            if codec is None:
                raise NotFound(NAMES[NETWORK])
            self._queue.enter()
        except FashionMNISTError as error:
            self._fail(request, error)
            return
        submit = functools.partial(self._submit, model, codec, request)
        try:
            try:
                found = read_quickly(codec, request, self._limits)
            except TooSlow as slow:
                read = functools.partial(codec.read, request, self._limits)
                self._slow.submit(slow.cost, read, submit, lambda: request.cancelled)
            else:
                submit(found)
        except FashionMNISTError as error:
            self._refuse(request, error)

    def close(self) -> None:
        """Compute nothing more."""
        self._queue.close()

    def _submit(
        self, model: Model, codec: Explain, request: Request, found: tuple[Form, Decoded] | BaseException
    ) -> None:
        if isinstance(found, BaseException):
            self._refuse(request, found)
            return
        form, decoded = found
        read = time.perf_counter()

        def compute() -> _Computed:
            assert model.explainer is not None
            began = time.perf_counter()
            explanation = model.explainer.explain(decoded.pixels[0], occlude=form.occlusion)
            explained = time.perf_counter()
            return _Computed(codec.write(explanation, decoded, form), began, explained)

        self._queue.submit(compute, functools.partial(self._send, request, read), lambda: request.cancelled)

    def _send(self, request: Request, read: float, found: Any) -> None:
        if not isinstance(found, _Computed):
            self._refuse(request, found)
            return
        self._queue.leave()
        ends = (request.started, request.received, read, found.began, found.explained, time.perf_counter())
        times = [1e3 * (end - start) for start, end in itertools.pairwise(ends)]
        request.answer(found.answer, TIMED % (request.request_id, *times))

    def _refuse(self, request: Request, error: BaseException | None) -> None:
        """Give the place back, and say why; None where nobody waits any more."""
        self._queue.leave()
        if error is None or request.cancelled:
            return
        if not isinstance(error, FashionMNISTError):
            log.error("an explanation failed", exc_info=error, extra={"request_id": request.request_id.decode()})
            error = FashionMNISTError("the request failed, which is not your fault: report it")
        self._fail(request, error)
