"""Traces through to TorchServe's worker: a span for each request that came with a traceparent of a trace."""

from collections.abc import Sequence

from opentelemetry.trace import SpanKind

from fashion_mnist.tracing import open_provider, parent
from handlers.torchserve_request import Request


class Traces:
    """What one worker notes down."""

    def __init__(self, endpoint: str, version: str) -> None:
        """`endpoint` is the collector's URL, `version` the model's."""
        self._tracer = open_provider(endpoint, "worker", version).get_tracer("worker")

    def add(self, requests: Sequence[Request], started_ns: int) -> None:
        """A batch was answered just now that began at that moment, in nanoseconds since 1970."""
        for request in requests:
            if header := request.header("traceparent"):
                context, caller = parent(header, request.header("tracestate"))
                if caller.is_valid and caller.trace_flags.sampled:
                    images, refused = request.counts()
                    attributes = {"fashion_mnist.images": images, "fashion_mnist.refused": refused}
                    self._tracer.start_span("handle", context, SpanKind.SERVER, attributes, start_time=started_ns).end()
