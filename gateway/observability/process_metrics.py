"""Resource usage of the server's processes, read from the kernel at each scrape.

Processes of one kind share one value. Counters continue across restarts: what a process used between the last scrape
and its death is lost, and if one is restarted twice between two scrapes, only one start is counted.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving import processes

KINDS: Final = ("supervisor", "gateway", "jvm", "worker")
"""The supervisor, which is this process; gateways; TorchServe's JVM; and the workers that it started."""

Pids = Callable[[], Collection[int]]


class Processes(Collector):
    """This process and its descendants."""

    def __init__(self, gateways: Pids, jvms: Pids) -> None:
        """`gateways` and `jvms` return the ids of the processes that run now."""
        self._gateways = gateways
        self._jvms = jvms
        self._lock = threading.Lock()
        self._starts: Counter[str] = Counter()
        self._cpu: defaultdict[str, float] = defaultdict(float)
        self._known: dict[psutil.Process, float] = {}  # psutil compares id and start time

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            yield from self._collect()

    def _collect(self) -> Iterator[Metric]:
        gauges = {
            "serving_processes": "Processes of the server.",
            "serving_process_resident_bytes": "Resident memory of the processes; shared pages count in each.",
            "serving_process_threads": "Threads of the processes.",
            "serving_process_open_files": "Open files of the processes, connections included.",
        }
        now: dict[str, Counter[str]] = {name: Counter() for name in gauges}
        known: dict[psutil.Process, float] = {}
        kinds = self._kinds()
        for process, kind in kinds.items():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    figures = (1, process.memory_info().rss, process.num_threads(), process.num_fds())
            except psutil.Error:  # it has just ended
                continue
            for name, figure in zip(gauges, figures, strict=True):
                now[name][kind] += figure
            if process not in self._known:
                self._starts[kind] += 1
            known[process] = times.user + times.system
            self._cpu[kind] += known[process] - self._known.get(process, 0.0)
        self._known = known

        # Kinds that this engine does not use are absent; one that has died has the value 0.
        kinds_seen = [kind for kind in KINDS if kind in self._starts]
        for name, help in gauges.items():
            gauge = GaugeMetricFamily(name, help, labels=["process"])
            for kind in kinds_seen:
                gauge.add_metric([kind], now[name][kind])
            yield gauge
        counters: dict[str, tuple[str, Mapping[str, float]]] = {
            "serving_process_cpu_seconds": ("CPU time of the processes.", self._cpu),
            "serving_process_starts": ("Starts of processes.", self._starts),
        }
        for name, (help, values) in counters.items():
            counter = CounterMetricFamily(name, help, labels=["process"])
            for kind in kinds_seen:
                counter.add_metric([kind], values[kind])
            yield counter

    def _kinds(self) -> dict[psutil.Process, str]:
        supervisor = psutil.Process()
        found = {supervisor: "supervisor"}
        for pids, kind, below in ((self._gateways(), "gateway", "gateway"), (self._jvms(), "jvm", "worker")):
            for pid in pids:
                family = processes.tree(pid)
                found.update((process, kind if process.pid == pid else below) for process in family)
        return found
