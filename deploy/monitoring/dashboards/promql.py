"""Queries, as panels ask them: `SERVER` in them is the choice of servers, `$__rate_interval` Grafana's of a window."""

from typing import Final

OK: Final = 'code="ok"'
FAILED: Final = 'code=~"overloaded|unavailable|internal_error"'
"""Errors that are the server's."""

REFUSED: Final = 'code!~"ok|overloaded|unavailable|internal_error"'
"""Those that are the sender's."""

WORKER: Final = 'process="worker"'
IN_TIME: Final = 'le="0.1"'
UNSURE: Final = 'le="0.5"'

FAILURES_PROMISED: Final = "0.001"
LATE_PROMISED: Final = "0.01"
"""The shares of requests that may fail, and of predictions that may be late, as rules.yml has them."""

REQUESTS: Final = "serving_requests_total"
SECONDS: Final = "serving_request_seconds"
STAGE_SECONDS: Final = "serving_stage_seconds"
PREDICTIONS: Final = "serving_predictions_total"
BATCH_IMAGES: Final = "serving_batch_images"
PROCESSES: Final = "serving_processes"
CPU_SECONDS: Final = "serving_process_cpu_seconds_total"
TORCHSERVE: Final = "serving_torchserve"
JVM: Final = "serving_jvm"
CONFIDENCE: Final = "serving_confidence"


def selected(metric: str, *matchers: str) -> str:
    """A metric of the servers that were chosen."""
    return f"{metric}{{{','.join(['SERVER', *matchers])}}}"


def rate(metric: str, *matchers: str, by: str = "") -> str:
    """How fast a counter grows, a second, by a label or all together."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({selected(metric, *matchers)}[$__rate_interval]))"


def buckets(histogram: str, *matchers: str) -> tuple[str, str]:
    """A heat map's query: what came into each bucket between two points of it."""
    return f"sum by (le) (increase({selected(f'{histogram}_bucket', *matchers)}[$__rate_interval]))", "{{le}}"


def quantile(share: float, histogram: str, *matchers: str) -> tuple[str, str]:
    """What this share of a histogram's values is below of."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', *matchers, by='le')})", f"p{100 * share:g}"


def mean(histogram: str, by: str = "") -> str:
    """The mean of a histogram's values, by a label or of all."""
    return f"{rate(f'{histogram}_sum', by=by)} / {rate(f'{histogram}_count', by=by)}"


def by(label: str, metric: str, *matchers: str) -> tuple[str, str]:
    """A gauge's query, by a label."""
    return f"sum by ({label}) ({selected(metric, *matchers)})", f"{{{{{label}}}}}"


def rates_by(label: str, metric: str, *matchers: str) -> tuple[str, str]:
    """A counter's query, by a label."""
    return rate(metric, *matchers, by=label), f"{{{{{label}}}}}"
