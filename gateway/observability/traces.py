"""Traces of requests and batches. Without `traces_endpoint` this module is not imported.

A traced request has a span with a child for each stage. A batch contains images of many requests, so its span is in a
trace of its own; it links to the spans of its requests, and they to it. The span of a batch with a single request is
that request's child.
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
    """The traces of one gateway."""

    def __init__(self, settings: Settings, version: str) -> None:
        """`version` is the model's. Does not connect yet."""
        self._provider = open_provider(settings.traces_endpoint, "gateway", version)
        self._tracer = self._provider.get_tracer("gateway")
        self._share = settings.traces_percent / 100

    def begin(self, request: Exchange) -> Span | None:
        """A span for a request if its caller traces it, or, without a caller's span, for a share of requests."""
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
        """End an answered request's span. `moments`, from `time.perf_counter`, are its stages' starts and the end."""
        parent_context = set_span_in_context(span, Context())
        for stage, start, end in zip(STAGES, moments[:-1], moments[1:], strict=True):
            self._tracer.start_span(stage, parent_context, start_time=_ns(start)).end(_ns(end))
        span.set_attributes({"http.response.status_code": status, "fashion_mnist.images": images})
        span.end(_ns(moments[-1]))

    def fail(self, span: Span, error: FashionMNISTError) -> None:
        """End a refused request's span."""
        span.set_attributes({"http.response.status_code": error.status, "error.type": error.code})
        if error.status >= 500:
            span.set_status(Status(StatusCode.ERROR, error.message))
        span.end()

    def cancel(self, span: Span) -> None:
        """End the span of a request whose client has disconnected."""
        span.set_attribute("error.type", "cancelled")
        span.end()

    def headers(self, span: Span) -> bytes:
        """The answer's header with its trace, as complete lines, for callers that did not start the trace."""
        return f"Traceresponse: {traceparent(span)}\r\n".encode()

    @contextmanager
    def batch(self, requests: Sequence[Span], images: int) -> Iterator[None]:
        """A span around the engine's computation of a batch; `requests` are the spans of its traced requests."""
        if not requests:
            yield
            return
        context = set_span_in_context(requests[0], Context()) if len(requests) == 1 else Context()
        links = [Link(request.get_span_context()) for request in requests]
        attributes = {"fashion_mnist.images": images}
        span = self._tracer.start_span("engine", context, SpanKind.CLIENT, attributes, links)
        for request in requests:
            if request.is_recording():  # its client may have disconnected meanwhile
                request.add_link(span.get_span_context())
        # For this task only: several batches may be in flight.
        with use_span(span, end_on_exit=True, record_exception=False):
            yield

    def engine_headers(self) -> str:
        """Headers for the batch that this task sends to another process, as complete lines."""
        span = get_current_span()
        return f"traceparent: {traceparent(span)}\r\n" if span.is_recording() else ""

    def close(self) -> None:
        """Send the remaining spans, for at most CLOSE_S."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _ns(moment: float) -> int:
    return _EPOCH_NS + int(moment * 1e9)
