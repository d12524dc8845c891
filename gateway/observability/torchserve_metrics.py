"""TorchServe's and its JVM's own metrics, under our names and in seconds and bytes.

TorchServe listens at a private socket only, so the supervisor reads its metrics at each scrape.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from fashion_mnist.handler_interface import metrics
from serving.gc_log import GcLog
from serving.torchserve import TorchServe

TIMEOUT_S: Final = 0.5
"""Short, because TorchServe is on this machine and Prometheus waits."""

_COUNTERS: Final = {
    "ts_inference_requests": ("batches", 1, "Batches sent to TorchServe, health checks included."),
    "ts_inference_latency_microseconds": ("seconds", 1e-6, "Time of the batches in TorchServe, its queue included."),
    "ts_queue_latency_microseconds": ("queue_seconds", 1e-6, "Time of the batches in TorchServe's queue."),
    metrics.IMAGES: ("images", 1, "Images that the workers predicted."),
    metrics.REFUSED: ("refused_images", 1, "Images that the workers refused."),
}
"""By TorchServe's name: our name, the unit's factor, and the help text."""

_ANSWERS: Final = {f"Requests{status}XX": f"{status}xx" for status in (2, 4, 5)}


class TorchServes(Collector):
    """The TorchServes of all versions of the model."""

    def __init__(self, running: Callable[[], Mapping[str, TorchServe]]) -> None:
        """`running` returns the current ones by version."""
        self._running = running
        self._lock = threading.Lock()
        self._gc_logs: dict[Path, GcLog] = {}

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            running = dict(self._running())
            if running:
                yield from self._requests(running)
                yield from self._jvms(running)

    def _requests(self, running: Mapping[str, TorchServe]) -> Iterator[Metric]:
        counters = {
            name: CounterMetricFamily(f"serving_torchserve_{ours}", help, labels=["version"])
            for name, (ours, _, help) in _COUNTERS.items()
        }
        answers = CounterMetricFamily(
            "serving_torchserve_answers", "Answers of TorchServe by status.", labels=["version", "status"]
        )
        for version, torchserve in running.items():
            found = self._ask(torchserve.folder.metrics)
            if found is None:
                continue  # a gap is better than a zero
            for name, counter in counters.items():
                counter.add_metric([version], _COUNTERS[name][1] * found.get(name, 0.0))
            for name, status in _ANSWERS.items():
                answers.add_metric([version, status], found.get(name, 0.0))
        yield from counters.values()
        yield answers

    def _ask(self, socket: Path) -> dict[str, float] | None:
        """The sums of a TorchServe's metrics by name; None if it does not answer."""
        try:
            with httpx.Client(
                transport=httpx.HTTPTransport(verify=False, uds=str(socket)), timeout=TIMEOUT_S
            ) as client:
                answer = client.get("http://localhost/metrics").raise_for_status()
        except httpx.HTTPError:
            return None
        return {
            family.name: sum(sample.value for sample in family.samples)
            for family in text_string_to_metric_families(answer.text)
        }

    def _jvms(self, running: Mapping[str, TorchServe]) -> Iterator[Metric]:
        pauses = CounterMetricFamily("serving_jvm_gc_pauses", "Garbage collections.", labels=["version"])
        seconds = CounterMetricFamily(
            "serving_jvm_gc_pause_seconds", "Time of the JVM's garbage collection pauses.", labels=["version"]
        )
        heap = GaugeMetricFamily(
            "serving_jvm_heap_bytes", "Heap in use after the last garbage collection.", labels=["version"]
        )
        capacity = GaugeMetricFamily("serving_jvm_heap_capacity_bytes", "Current size of the heap.", labels=["version"])
        limit = GaugeMetricFamily("serving_jvm_heap_limit_bytes", "Maximum size of the heap.", labels=["version"])
        paths = {version: torchserve.folder.gc_log for version, torchserve in running.items()}
        self._gc_logs = {path: self._gc_logs.get(path) or GcLog(path) for path in paths.values()}
        for version, path in paths.items():
            log = self._gc_logs[path]
            log.read()
            pauses.add_metric([version], log.pauses)
            seconds.add_metric([version], log.seconds)
            limit.add_metric([version], running[version].settings.jvm_heap_mib << 20)
            if log.heap_bytes is not None and log.capacity_bytes is not None:
                heap.add_metric([version], log.heap_bytes)
                capacity.add_metric([version], log.capacity_bytes)
        yield from (pauses, seconds, heap, capacity, limit)
