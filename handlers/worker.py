"""TorchServe's worker as this handler needs it: its log, its metrics, its traces, and two repairs."""

import logging
from typing import TYPE_CHECKING, Any

from fashion_mnist.metrics import IMAGES, REFUSED
from fashion_mnist.settings import Settings
from handlers import buffered_reader, repeated_fields
from handlers.torchserve_request import Request

if TYPE_CHECKING:
    from handlers.traces import Traces


def prepare() -> None:
    """Quieten the worker's log and repair its protocol. Called once, when the model is loaded."""
    # TorchServe logs a line a request and passes it through a pipe and a Java logger. Its metrics take the same way.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("ts.metrics").setLevel(logging.INFO)
    buffered_reader.apply()
    repeated_fields.apply()


class Counters:
    """Our counters, through TorchServe's metrics API."""

    def __init__(self, metrics: Any) -> None:
        """`metrics` is TorchServe's `ts.metrics.metric_cache_yaml_impl.MetricsCacheYamlImpl`."""
        self._dimensions = [str(metrics.model_name), "Model"]
        self._answered, self._refused = (
            metrics.add_metric_to_cache(name, "Count", ["ModelName", "Level"]) for name in (IMAGES, REFUSED)
        )

    def add(self, requests: list[Request]) -> None:
        """Count a batch's images: one line a batch, two where images were refused."""
        answered, refused = map(sum, zip(*(request.counts() for request in requests), strict=True))
        if answered:
            self._answered.add_or_update(answered, self._dimensions)
        if refused:
            self._refused.add_or_update(refused, self._dimensions)


def open_traces(settings: Settings, version: str) -> "Traces | None":
    """What notes down spans, None where no traces are wanted."""
    if not settings.traces_endpoint:
        return None
    from handlers.traces import Traces  # here, because OpenTelemetry need not be installed otherwise

    return Traces(settings.traces_endpoint, version)
