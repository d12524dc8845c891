"""OpenTelemetry for the processes that serve: where spans go, and what a traceparent header says.

Import it only where traces are wanted: OpenTelemetry takes a quarter of a second to load, and is not needed otherwise.
"""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fashion_mnist.errors import UsageError

DELAY_S: Final = 1.0
"""How long a span waits for others to be sent with."""

TIMEOUT_S: Final = 3.0
"""How long the collector has to take them. What it does not take is dropped, and the log says so."""

MOST_LINKS: Final = 256
"""No batch holds more images; OpenTelemetry itself would keep 128."""

_W3C: Final = TraceContextTextMapPropagator()


def open_provider(endpoint: str, process: str, version: str) -> TracerProvider:
    """A provider that sends all its spans to an OTLP collector over HTTP. `version` is the model's.

    Whether a request is traced is decided before a span of it is made: a span that is not wanted costs nothing at all.
    Raises UsageError where the endpoint is no URL.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"traces_endpoint is {endpoint!r}: it takes a URL, such as http://127.0.0.1:4318")
    resource = Resource.create({"service.name": f"fashion-mnist-{process}", "service.version": version})
    # A batch links to every request that it has images of. Who opens it closes it: at exit it would wait long.
    limits = SpanLimits(max_links=MOST_LINKS)
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, span_limits=limits)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_S * 1000))
    return provider


def parent(traceparent: str, tracestate: str = "") -> tuple[Context, SpanContext]:
    """The context that these headers carry (https://www.w3.org/TR/trace-context/), invalid where they carry none."""
    context = _W3C.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())
    found = get_current_span(context).get_span_context()
    return (context, found) if found.is_valid else (Context(), INVALID_SPAN_CONTEXT)


def traceparent(span: Span) -> str:
    """A span as the header that makes it the parent of others."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
