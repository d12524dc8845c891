"""OpenTelemetry for serving processes: the exporter of spans, and traceparent headers.

Import it only to trace: OpenTelemetry takes a quarter of a second to load.
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
"""How long spans are collected before they are sent."""

TIMEOUT_S: Final = 3.0
"""The collector's time to accept spans. Then they are dropped, and a log line says so."""

MAX_LINKS: Final = 256
"""The maximum number of images of a batch; OpenTelemetry's default is 128."""

_W3C: Final = TraceContextTextMapPropagator()


def open_provider(endpoint: str, process: str, version: str) -> TracerProvider:
    """A provider that sends all its spans to an OTLP collector over HTTP. `version` is the model's.

    Decide whether to trace before creating a span, so that requests that are not traced cost nothing.
    Raises UsageError if the endpoint is no URL.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"traces_endpoint is {endpoint!r}: use a URL such as http://127.0.0.1:4318")
    resource = Resource.create({"service.name": f"fashion-mnist-{process}", "service.version": version})
    # A batch links to every request in it. The caller shuts the provider down, because at exit that would take long.
    limits = SpanLimits(max_links=MAX_LINKS)
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, span_limits=limits)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_S * 1000))
    return provider


def parent(traceparent: str, tracestate: str = "") -> tuple[Context, SpanContext]:
    """The context in these headers (https://www.w3.org/TR/trace-context/), invalid if they have none."""
    context = _W3C.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())
    found = get_current_span(context).get_span_context()
    return (context, found) if found.is_valid else (Context(), INVALID_SPAN_CONTEXT)


def traceparent(span: Span) -> str:
    """The traceparent header of a span, which makes it the parent of others."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
