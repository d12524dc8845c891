"""Every panel of every dashboard shows what happened.

Known requests are sent to the real server, with either engine, and a real Prometheus is asked what Grafana would ask.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
import httpx
import numpy as np
import pytest

from fashion_mnist import drift
from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.drift import FIGURES, Reference
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import model_card, model_version
from fashion_mnist.task import FASHION_MNIST
from gateway.observability.metrics import CONFIDENCE, IMAGES, SECONDS, STAGES
from loadtest.kinds import Kind, find_kind, native
from tests.support.command import ServeCommand, wait_until
from tests.support.prometheus import MONITORING, SCRAPE_S, Panel, Prometheus, panels, prometheus

TIMEOUT_S = 20.0
MIX = {"png": 20, "v1 x 2": 10, "oip x 3": 10, "grpc x 2": 10, "raw x 8": 130}
"""How many requests of each kind. The last one's images fill the window that drift is measured of."""

BAD = {"bad_length": (7, b"1", ""), "bad_json": (5, b"{", "application/json")}
"""By the error's code: how many, their body and its type."""

AFTER_S = 12
"""How long is waited at least from the first request until panels are looked at: a rate's ends are worth a scrape or
two, which must not be much of it."""

GPU = "GPU"
TORCHSERVE_ALONE = ("TorchServe's workers", "TorchServe's JVM")
"""Rows that are empty without one."""

Shown = dict[str, float]
_T = TypeVar("_T")

NATIVE = native(FASHION_MNIST)


@dataclass
class Seen:
    """What the load generator sent and saw."""

    version: str
    reference: Reference
    images: list[np.ndarray] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of each request that was answered with a prediction, from sending to the answer."""
    probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 10)))
    """Of the images in order, by an engine of our own."""


@dataclass
class Situation:
    """One server, what it was sent, and the Prometheus that watched."""

    engine: str
    command: ServeCommand
    seen: Seen
    prometheus: Prometheus
    window_s: int
    at: float
    """When the window ends."""
    family_seconds: float
    """Processor time of all the server's processes, while it was watched."""

    def shows(self, panel: Panel) -> Shown:
        return self.prometheus.panel(panel, self.window_s, self.at)

    def is_rate(self, found: float, count: float) -> None:
        """Whether a rate is of so many events in the window: right but for the scrapes at its ends."""
        assert found == pytest.approx(count / self.window_s, rel=0.2), f"{found * self.window_s} instead of {count}"


@pytest.fixture(scope="module", params=["embedded", "torchserve"])
def situation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, model_store: Path
) -> Iterator[Situation]:
    command: ServeCommand = request.getfixturevalue("embedded" if request.param == "embedded" else "in_front")
    state = command.state()
    reference = Reference.from_card(model_card(model_store))
    assert reference is not None
    seen = Seen(model_version(model_store), reference)
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        prometheus(folder, f"127.0.0.1:{state.admin_port}") as watching,
        httpx.Client(base_url=f"http://127.0.0.1:{state.port}", timeout=TIMEOUT_S) as client,
        grpc.insecure_channel(f"127.0.0.1:{state.grpc_port}") as channel,
    ):
        total, images = "sum(serving_requests_total)", "sum(serving_predictions_total)"
        wait_until(lambda: watching.ask("serving_ready == 1"), "the first scrape of a server that is ready", 20)
        before, images_before = watching.value(total), watching.value(images)
        cpu_before = _family_seconds(command)
        started = time.time()
        _send(client, channel, seen, dataset)
        wait_until(lambda: watching.value(total) - before == sum(seen.codes.values()), "all requests", 20)
        wait_until(lambda: watching.value(images) - images_before == len(seen.images), "all images", 20)
        wait_until(lambda: time.time() - started > AFTER_S, "a window of some length", 2 * AFTER_S)
        at = time.time()
        while watching.ask("up == 1", at) == []:  # on a busy machine a scrape may have failed
            wait_until(lambda: watching.ask("up == 1"), "a scrape", 20)
            at = time.time()
        family_seconds = _family_seconds(command) - cpu_before
        seen.probabilities = open_engine(model_store, "onnx", "cpu").predict(np.array(seen.images))
        window_s = math.ceil(at - started) + 2 * SCRAPE_S  # one scrape before the first request is in it
        yield Situation(request.param, command, seen, watching, window_s, at, family_seconds)


def _family_seconds(command: ServeCommand) -> float:
    times = [process.cpu_times() for process in command.family()]
    return sum(each.user + each.system for each in times)


def _send(client: httpx.Client, channel: grpc.Channel, seen: Seen, dataset: Dataset) -> None:
    places = iter(range(len(dataset.test.images)))
    for name, count in MIX.items():
        kind = find_kind(name)
        for _ in range(count):
            images = dataset.test.images[[next(places) for _ in range(kind.images)]]
            started = time.perf_counter()
            answer = _call(client, channel, kind, images)
            seen.seconds.append(time.perf_counter() - started)
            seen.labels.update(kind.read(answer))
            seen.images += list(images)
            seen.codes["ok"] += 1
    for code, (count, body, kind_of_body) in BAD.items():
        for _ in range(count):
            response = client.post(NATIVE, content=body, headers={"content-type": kind_of_body} if kind_of_body else {})
            seen.codes[response.json()["error"]["code"]] += 1
        assert seen.codes[code] == count


def _call(client: httpx.Client, channel: grpc.Channel, kind: Kind, images: np.ndarray) -> bytes:
    sent = kind.write(images)
    if kind.grpc:
        answer: bytes = channel.unary_unary(sent.path)(sent.body, timeout=TIMEOUT_S)
        return answer
    return client.post(sent.path, content=sent.body, headers=dict(sent.headers)).raise_for_status().content


def only(shown: dict[str, _T]) -> _T:
    (value,) = shown.values()
    return value


def find(dashboard: str, row: str) -> dict[str, Panel]:
    return {panel.title: panel for panel in panels() if (panel.dashboard, panel.row) == (dashboard, row)}


def test_no_panel_is_empty(situation: Situation) -> None:
    missing = {GPU, *(TORCHSERVE_ALONE if situation.engine == "embedded" else ())}
    for panel in panels():
        shown = situation.shows(panel)
        assert bool(shown) == (panel.row not in missing), panel.key
        assert all(map(math.isfinite, shown.values())), (panel.key, shown)


def test_rules_ask_for_what_there_is(situation: Situation) -> None:
    there = {labels["__name__"] for labels, _ in situation.prometheus.ask('{__name__=~".+"}', situation.at)}
    rules = (MONITORING / "prometheus" / "rules.yml").read_text()
    asked = set(re.findall(r"(?:job:)?serving_\w+(?::\w+)?", rules))
    missing = {name for name in asked - there if "jvm" not in name or situation.engine == "torchserve"}
    assert len(asked) > 10
    assert not missing


def test_service_now(situation: Situation) -> None:
    row = {title: only(situation.shows(panel)) for title, panel in find("service", "Now").items()}
    seconds = situation.seen.seconds
    assert row["Gateways ready"] == 1
    situation.is_rate(row["Requests"], sum(situation.seen.codes.values()))
    assert row["Failures"] == 0
    # The server's time is part of what the client saw, and is told to a bucket.
    assert 0 < row["Slowest of a hundred"] <= next(bound for bound in (*SECONDS, math.inf) if bound >= max(seconds))
    assert row["Within 0.1 s"] >= np.mean(np.array(seconds) <= 0.1) - 1e-9
    assert row["Alerts"] == 0


def test_traffic_and_errors(situation: Situation) -> None:
    traffic = find("service", "Traffic")
    situation.is_rate(only(situation.shows(traffic["Answered requests"])), situation.seen.codes["ok"])
    situation.is_rate(only(situation.shows(traffic["Images"])), len(situation.seen.images))
    assert only(situation.shows(traffic["Connections"])) >= 1, "one of HTTP at least; gRPC's are not counted"
    errors = find("service", "Errors")
    theirs = situation.shows(errors["The sender's errors"])
    assert set(theirs) == set(BAD)
    for code, found in theirs.items():
        situation.is_rate(found, situation.seen.codes[code])
    ours = situation.shows(errors["The server's errors"])
    assert ours == {"overloaded": 0, "unavailable": 0, "internal_error": 0}
    budget = situation.shows(errors["Budget of errors"])
    assert [value for legend, value in budget.items() if "failures" in legend] == [0, 0, 0]


def test_latency(situation: Situation) -> None:
    row = find("service", "Latency")
    quantiles = situation.shows(row["Requests"])
    assert 0 < quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"]
    assert quantiles["p50"] <= next(bound for bound in SECONDS if bound >= np.median(situation.seen.seconds))
    stages = situation.shows(row["Where the time goes"])
    assert set(stages) == set(STAGES)
    assert 0 < sum(stages.values()) <= 1.05 * np.mean(situation.seen.seconds)
    heat_maps = [panel for title, panel in row.items() if title == "Whole request" or title.startswith("Stage: ")]
    assert len(heat_maps) == 1 + len(STAGES)
    for panel in heat_maps:
        buckets = situation.shows(panel)
        assert set(map(float, buckets)) == {*SECONDS, math.inf}
        assert buckets["+Inf"] == max(buckets.values())
        situation.is_rate(buckets["+Inf"] / situation.window_s, situation.seen.codes["ok"])


def test_the_line(situation: Situation) -> None:
    row = find("resources", "The line")
    assert only(situation.shows(row["Images in line"])) == 0
    assert only(situation.shows(row["Bytes in line"])) == 0
    assert 0 <= situation.shows(row["Time in line"])["p99"] <= max(situation.seen.seconds)
    batches = situation.shows(row["Batch size"])
    assert set(map(float, batches)) == {*map(float, IMAGES), math.inf}
    # One request after the other: each is a batch.
    situation.is_rate(batches["+Inf"] / situation.window_s, situation.seen.codes["ok"])
    mean = len(situation.seen.images) / situation.seen.codes["ok"]
    assert only(situation.shows(row["Mean batch"])) == pytest.approx(mean, rel=0.05)


def test_processes(situation: Situation) -> None:
    row = {title: situation.shows(panel) for title, panel in find("resources", "Processes").items()}
    kinds = {"supervisor", "gateway"} | ({"jvm", "worker"} if situation.engine == "torchserve" else set())
    assert all(set(shown) == kinds for shown in row.values())
    assert set(row["Processes"].values()) == {1}
    assert sum(row["Processor"].values()) == pytest.approx(situation.family_seconds / situation.window_s, rel=0.5)
    memory = {process.pid: process.memory_info().rss for process in situation.command.family()}
    assert sum(row["Memory"].values()) == pytest.approx(sum(memory.values()), rel=0.2)
    assert row["Memory"]["gateway"] == pytest.approx(memory[situation.command.gateway().pid], rel=0.2)
    assert set(row["Starts"].values()) == {0}, "nothing was started while Prometheus watched"
    assert min(row["Threads"].values()) >= 1
    assert min(row["Open files"].values()) >= 3


def test_torchserve_and_its_jvm(situation: Situation) -> None:
    workers, jvm = (find("resources", row) for row in TORCHSERVE_ALONE)
    if situation.engine == "embedded":
        assert [panel.key for panel in (*workers.values(), *jvm.values()) if situation.shows(panel)] == []
        return
    window_s, images = situation.window_s, len(situation.seen.images)
    canaries = 2 * window_s  # one each second, or somewhat more
    assert only(situation.shows(workers["Workers"])) == 1
    batches = only(situation.shows(workers["Batches"])) * window_s
    assert 0.8 * situation.seen.codes["ok"] <= batches <= 1.2 * (situation.seen.codes["ok"] + canaries)
    answers = situation.shows(workers["Answers"])
    assert (answers["4xx"], answers["5xx"]) == (0, 0)
    assert answers["2xx"] * window_s >= 0.8 * situation.seen.codes["ok"]
    counted = situation.shows(workers["Images"])
    assert 0.8 * images <= counted["predicted"] * window_s <= 1.2 * (images + canaries)
    assert counted["refused"] == 0
    times = situation.shows(workers["Time of a batch"])
    assert 0 < times["waited"] < times["whole"] <= max(situation.seen.seconds)
    assert 0 < only(situation.shows(workers["Worker's processor"])) < 1.5
    version = situation.seen.version
    heap = situation.shows(jvm["Heap"])
    assert 0 < heap[f"in use, {version}"] < heap[f"size, {version}"] <= heap[f"limit, {version}"]
    assert 0 <= only(situation.shows(jvm["Time of collections"])) < 0.5


def test_answers_of_the_model(situation: Situation) -> None:
    seen, row = situation.seen, find("model", "Answers")
    assert seen.labels == Counter(CLASSES[place] for place in seen.probabilities.argmax(axis=1))
    mix = situation.shows(row["Class mix"])
    for label in CLASSES:
        assert mix[label] == pytest.approx(seen.labels[label] / len(seen.images), abs=0.02), label
    confidence = seen.probabilities.max(axis=1)
    buckets = situation.shows(row["Confidence"])
    assert set(map(float, buckets)) == {*CONFIDENCE, math.inf}
    for bound in (0.5, 0.9, math.inf):
        found = next(value for end, value in buckets.items() if float(end) == bound) / buckets["+Inf"]
        assert found == pytest.approx(np.mean(confidence <= bound), abs=0.02), bound
    mean = situation.shows(row["Mean confidence"])
    assert mean["mean"] == pytest.approx(confidence.mean(), abs=0.02)
    assert mean["below 0.5"] == pytest.approx(np.mean(confidence <= 0.5), abs=0.02)


def test_drift(situation: Situation) -> None:
    reference, row = situation.seen.reference, find("model", "Drift")
    images = np.array(situation.seen.images[-reference.window :])
    bins = reference.bins(situation.seen.probabilities[-len(images) :], drift.brightness(images))
    shown = situation.shows(row["Drift"])
    for figure, index, threshold in zip(
        FIGURES, reference.index(drift.counts(bins)), reference.thresholds, strict=True
    ):
        # Engines differ in the last digits, so an image may lie in the bin beside.
        assert shown[figure] == pytest.approx(index, abs=0.005), figure
        assert shown[f"threshold of {figure}"] == pytest.approx(threshold)
    assert only(situation.shows(row["Images watched"])) == reference.window


def test_versions(situation: Situation) -> None:
    row, version = find("model", "Versions"), situation.seen.version
    requests = situation.shows(row["Requests"])
    situation.is_rate(requests[version], situation.seen.codes["ok"])
    assert situation.shows(row["Ready"]) == {f"ready, {version}": 1, f"default, {version}": 1}
    checks = situation.shows(row["Canaries"])
    assert 0.2 < checks[f"passed, {version}"] < 2
    assert checks[f"failed, {version}"] == 0


def test_panels_have_names_of_their_own() -> None:
    keys = [panel.key for panel in panels()]
    assert len(set(keys)) == len(keys)
