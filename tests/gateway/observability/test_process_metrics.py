"""What the server's processes take of the machine, and what TorchServe and its JVM tell, is on the page of metrics."""

import os
from collections.abc import Sequence

import httpx
import psutil
import pytest

from fashion_mnist.data.splits import Dataset
from gateway.observability.process_metrics import Processes
from tests.support.command import ServeCommand, wait_until
from tests.support.samples import Samples, scrape


def by_process(samples: Samples, name: str) -> dict[str, float]:
    return {labels[0][1]: value for (found, labels), value in samples.items() if found == name}


def test_each_kind_of_process_has_its_figures(in_front: ServeCommand) -> None:
    found = scrape(in_front)
    parts = {
        "supervisor": [psutil.Process(in_front.process.pid)],
        "gateway": [in_front.gateway()],
        "jvm": [in_front.jvm()],
        "worker": [in_front.worker()],
    }
    assert by_process(found, "serving_processes") == dict.fromkeys(parts, 1)
    resident = by_process(found, "serving_process_resident_bytes")
    seconds = by_process(found, "serving_process_cpu_seconds_total")
    for kind, processes in parts.items():
        assert resident[kind] == pytest.approx(sum(each.memory_info().rss for each in processes), rel=0.2), kind
        times = [each.cpu_times() for each in processes]
        rounding = 1e-6  # of sums in another order
        assert 0 < seconds[kind] <= sum(each.user + each.system for each in times) + rounding, kind
    assert all(starts >= 1 for starts in by_process(found, "serving_process_starts_total").values())
    assert all(by_process(found, "serving_process_threads").values())
    assert all(by_process(found, "serving_process_open_files").values())


def test_without_torchserve_there_is_none_of_it(embedded: ServeCommand) -> None:
    found = scrape(embedded)
    assert set(by_process(found, "serving_processes")) == {"supervisor", "gateway"}
    assert not [name for name, _ in found if "torchserve" in name or "jvm" in name]


def test_a_worker_that_died_is_counted(in_front: ServeCommand) -> None:
    def starts() -> float:
        return by_process(scrape(in_front), "serving_process_starts_total")["worker"]

    before = scrape(in_front)
    worker = in_front.worker()
    worker.kill()
    wait_until(lambda: starts() == by_process(before, "serving_process_starts_total")["worker"] + 1, "a new one")
    after = scrape(in_front)
    name = "serving_process_cpu_seconds_total"
    assert by_process(after, name)["worker"] >= by_process(before, name)["worker"], "a counter never goes back"
    wait_until(lambda: httpx.post(in_front.url, content=bytes(784), timeout=20).status_code == 200, "ready again")


def test_torchserve_and_its_jvm_are_heard(in_front: ServeCommand, dataset: Dataset) -> None:
    before = scrape(in_front)
    httpx.post(in_front.url, content=dataset.test.images[:40].tobytes(), timeout=20).raise_for_status()

    def grown(name: str) -> float:
        after = scrape(in_front)
        return sum(value - before.get(key, 0) for key, value in after.items() if key[0] == name)

    # The worker tells its counts twice a second, and canaries are among them.
    wait_until(lambda: grown("serving_torchserve_images_total") >= 40, "images of the worker", 10)
    assert grown("serving_torchserve_batches_total") >= 1
    assert grown("serving_torchserve_seconds_total") > 0
    found = {name: value for (name, _), value in scrape(in_front).items()}
    assert found["serving_jvm_gc_pauses_total"] >= 1, "its start takes one"
    assert 0 < found["serving_jvm_heap_bytes"] < found["serving_jvm_heap_capacity_bytes"]
    assert found["serving_jvm_heap_capacity_bytes"] <= found["serving_jvm_heap_limit_bytes"]
    canaries = {labels: value for (name, labels), value in scrape(in_front).items() if "health_checks" in name}
    assert [value > 0 for labels, value in canaries.items() if ("outcome", "passed") in labels] == [True]


def test_a_kind_without_processes_is_left_out() -> None:
    def none() -> Sequence[int]:
        return []

    families = {family.name: family for family in Processes(none, none).collect()}
    (sample,) = families["serving_processes"].samples
    assert (sample.labels, sample.value) == ({"process": "supervisor"}, 1)
    assert families["serving_process_resident_bytes"].samples[0].value == pytest.approx(
        psutil.Process(os.getpid()).memory_info().rss, rel=0.2
    )
