"""Traces of requests and of batches. Without `traces_endpoint` this module is not even imported.

A request that is traced has a span, with one below it for each stage. A batch holds images of many requests, so it
cannot belong to the trace of one of them: its span stands in a trace of its own, links to those of its requests, and
they to it. Where a batch is of one request alone, its span stands below that one's.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
    use_span,
)

from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.settings import Settings
from fashion_mnist.tracing import open_provider, parent, traceparent
from gateway.observability.metrics import STAGES
from gateway.types.exchange import Exchange

CLOSE_S: Final = 1.5

_EPOCH_NS: Final = time.time_ns() - time.perf_counter_ns()


class Traces:
    """What one gateway notes down."""

    def __init__(self, settings: Settings, version: str) -> None:
        """`version` is the model's. Nothing is sent yet."""
        self._provider = open_provider(settings.traces_endpoint, "gateway", version)
        self._tracer = self._provider.get_tracer("gateway")
        self._share = settings.traces_percent / 100

    def begin(self, request: Exchange) -> Span | None:
        """A span for a request: where its caller traces it, or else for a share of those whose caller says nothing."""
        context = Context()
        if request.traceparent:
            context, caller = parent(request.traceparent, request.tracestate)
            if caller.is_valid and not caller.trace_flags.sampled:
                return None
        if not context and random.random() >= self._share:
            return None
        path = request.url.partition(b"?")[0].decode("latin-1")
        return self._tracer.start_span(
            f"POST {path}",
            context,
            SpanKind.SERVER,
            {
                "http.request.method": "POST",
                "http.request.body.size": len(request.body),
                "url.path": path,
                "fashion_mnist.request_id": request.request_id.decode(),
            },
            start_time=_ns(request.started),
        )

    def end(self, span: Span, status: int, images: int, moments: Sequence[float]) -> None:
        """A request was answered; `moments`, of `time.perf_counter`, are the beginnings of its stages and their end."""
        below = set_span_in_context(span, Context())
        for stage, start, end in zip(STAGES, moments[:-1], moments[1:], strict=True):
            self._tracer.start_span(stage, below, start_time=_ns(start)).end(_ns(end))
        span.set_attributes({"http.response.status_code": status, "fashion_mnist.images": images})
        span.end(_ns(moments[-1]))

    def fail(self, span: Span, error: FashionMNISTError) -> None:
        """A request was refused."""
        span.set_attributes({"http.response.status_code": error.status, "error.type": error.code})
        if error.status >= 500:
            span.set_status(Status(StatusCode.ERROR, error.message))
        span.end()

    def leave(self, span: Span) -> None:
        """The client of a request hung up before its answer."""
        span.set_attribute("error.type", "cancelled")
        span.end()

    def headers(self, span: Span) -> bytes:
        """What an answer says of its trace, as whole lines: how callers find it who did not begin it."""
        return f"Traceresponse: {traceparent(span)}\r\n".encode()

    @contextmanager
    def batch(self, requests: Sequence[Span], images: int) -> Iterator[None]:
        """While it lasts the engine computes a batch with images of these requests, those that are traced."""
        if not requests:
            yield
            return
        alone = set_span_in_context(requests[0], Context()) if len(requests) == 1 else Context()
        links = [Link(request.get_span_context()) for request in requests]
        attributes = {"fashion_mnist.images": images}
        span = self._tracer.start_span("engine", alone, SpanKind.CLIENT, attributes, links)
        for request in requests:
            if request.is_recording():  # its client may have left meanwhile
                request.add_link(span.get_span_context())
        # Of this task alone: several batches may be on their way.
        with use_span(span, end_on_exit=True, record_exception=False):
            yield

    def engine_headers(self) -> str:
        """What goes with the batch that this task sends to another process, as whole lines."""
        span = get_current_span()
        return f"traceparent: {traceparent(span)}\r\n" if span.is_recording() else ""

    def close(self) -> None:
        """Send what is left, unless the collector takes its time: nobody waits for that."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _ns(moment: float) -> int:
    return _EPOCH_NS + int(moment * 1e9)
