"""TorchServe's worker as this handler needs it: its log, its metrics, its traces, and two repairs."""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from fashion_mnist.handler_interface.metrics import IMAGES, REFUSED
from fashion_mnist.settings import Settings
from handlers import buffered_reader, repeated_fields
from handlers.torchserve_request import Request

if TYPE_CHECKING:
    from handlers.traces import Traces

TELL_S: Final = 0.5
"""Between two looks at what was counted."""


def prepare() -> None:
    """Quieten the worker's log and repair its protocol. Called once, when the model is loaded."""
    # TorchServe logs a line a request and passes it through a pipe and a Java logger. Its metrics take the same way.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("ts.metrics").setLevel(logging.INFO)
    buffered_reader.apply()
    repeated_fields.apply()


class Counters:
    """Our counters, through TorchServe's metrics API, some moments late.

    That logs a line for each count, which the JVM reads and parses: for each batch, it would be a tenth of the worker's
    time. So a thread tells what has come together.
    """

    def __init__(self, metrics: Any) -> None:
        """`metrics` is TorchServe's `ts.metrics.metric_cache_yaml_impl.MetricsCacheYamlImpl`."""
        self._dimensions = [str(metrics.model_name), "Model"]
        self._counters = [
            metrics.add_metric_to_cache(name, "Count", ["ModelName", "Level"]) for name in (IMAGES, REFUSED)
        ]
        self._counted = [0, 0]  # only the worker's own thread writes here
        threading.Thread(target=self._tell, name="counters", daemon=True).start()

    def add(self, requests: list[Request]) -> None:
        """Count a batch's images, those that were answered and those that were refused."""
        for place, count in enumerate(map(sum, zip(*(request.counts() for request in requests), strict=True))):
            self._counted[place] += count

    def _tell(self) -> None:
        told = [0, 0]
        while True:
            time.sleep(TELL_S)
            for place, counter in enumerate(self._counters):
                counted = self._counted[place]
                if counted > told[place]:
                    counter.add_or_update(counted - told[place], self._dimensions)
                    told[place] = counted


def open_traces(settings: Settings, version: str) -> "Traces | None":
    """What notes down spans, None where no traces are wanted."""
    if not settings.traces_endpoint:
        return None
    from handlers.traces import Traces  # here, because OpenTelemetry need not be installed otherwise

    return Traces(settings.traces_endpoint, version)
