"""MLCommons' LoadGen in front of our service: the scenarios of MLPerf inference, by its own clock and its own verdict.

These are runs by its rules, not MLPerf results: those are submitted and reviewed.

https://github.com/mlcommons/inference/tree/master/loadgen, https://arxiv.org/abs/1911.02549
"""

import array
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import mlperf_loadgen
import psutil

from benchmarks.open_loop.grpc_connection import GRPCConnection
from benchmarks.open_loop.http_connection import HTTPConnection
from benchmarks.open_loop.sender import AT_ONCE, Answer, Sender
from fashion_mnist.classes import CLASSES
from fashion_mnist.errors import FashionMNISTError
from loadtest.recorder import Seen, bucket, quantile
from loadtest.requests import Request

LATE_SHARE: Final = 0.01
"""Sends that may be late."""

BUSY_SHARE: Final = 0.9
"""Of a core: above it the generator, not the server, may be what is measured."""

STREAMS: Final = 8
"""Queries of MultiStream, as MLPerf has it."""

SERVER_QUERIES: Final = 12_571
"""By which a 99th percentile is known: the share above it to 0.23 points, with a confidence of 99 %. By MLPerf's table
270,336 are submitted, for 0.05 points (https://arxiv.org/abs/1911.02549)."""

_INDICES: Final = {label: index for index, label in enumerate(CLASSES)}


@dataclass(frozen=True)
class Plan:
    """What LoadGen is asked to do.

    `rate` is of queries a second, `bound_ms` what 99 % of them may take at most. Offline hands out all queries at once:
    with `at_once` so many are with the server at a time, which makes it a closed loop of as many clients.
    """

    scenario: str
    seconds: float
    queries: int = 0
    rate: float = 0.0
    bound_ms: float = 10.0
    at_once: int = AT_ONCE
    accuracy: bool = False
    refusals: bool = False
    """Whether 429 is a right answer, as it is to more than the server can do."""


@dataclass
class Outcome:
    """What LoadGen said, and what we saw."""

    plan: Plan
    valid: bool
    """LoadGen's own verdict; in accuracy mode it has none, and this is true."""
    completed_per_s: float
    percentiles_ms: dict[str, float]
    """LoadGen's: of latencies since a query was due. Offline, where all are due at once: ours, since each was sent."""
    seen: Seen
    statuses: Counter[int]
    refusals: Counter[int]
    """Those that the plan allows, by the bucket of their latency."""
    seconds: float
    late_share: float
    generator_share: float
    """Of a core that the generator used."""
    stolen_share: float = 0.0
    """Of the machine's processor time that its hypervisor gave to others: some ms of it at once are a late tail."""
    accuracy: float | None = None
    reasons: list[str] = field(default_factory=list)
    """Why our own verdict is INVALID."""

    @property
    def goodput_per_s(self) -> float:
        """Images with the right label, a second; over the time that LoadGen counts."""
        return self.completed_per_s * self.seen.images / max(1, self.statuses.total())

    @property
    def generator_bound(self) -> bool:
        """Whether the figure is only a lower bound."""
        return self.generator_share > BUSY_SHARE


def run(url: str, requests: Sequence[Request], plan: Plan, folder: Path) -> Outcome:
    """One run with requests of one kind; LoadGen's own logs are kept in `folder`. Accuracy mode sends each once.

    Raises LoadGenFailed where LoadGen left no summary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen, statuses, refusals = Seen(), Counter[int](), Counter[int]()
    connection_class = GRPCConnection if requests[0].kind.grpc else HTTPConnection

    def check(answer: Answer) -> list[int]:
        """Note down what came; in accuracy mode, the classes that LoadGen is to keep."""
        request, ms = requests[answer.request], 1e3 * answer.seconds
        statuses[answer.status] += 1
        if answer.status == 200:
            try:
                labels = request.kind.read(answer.body)
                right = labels == request.labels
                classes = [_INDICES.get(label, -1) for label in labels] if plan.accuracy else []
            except Exception:  # whatever a server says: without a word of each query LoadGen waits for ever
                seen.failed("no labels in the answer")
                return []
            if right:
                seen.right(request.kind.name, ms, len(labels))
            else:
                seen.wrong("wrong label")
            return classes
        if plan.refusals and answer.status == 429:
            refusals[bucket(ms)] += 1
        else:
            seen.failed(f"status {answer.status}" if answer.status else "no answer")
        return []

    def take(answers: list[Answer]) -> None:
        if plan.accuracy:
            responses, kept = [], []
            for answer in answers:
                kept.append(array.array("q", check(answer)))  # LoadGen reads it where it lies
                where, length = kept[-1].buffer_info()
                responses.append(mlperf_loadgen.QuerySampleResponse(answer.query, where, 8 * length))
            mlperf_loadgen.QuerySamplesComplete(responses)
            return
        # To read an answer is the generator's work: LoadGen's clock stops before that.
        mlperf_loadgen.QuerySamplesComplete(
            [mlperf_loadgen.QuerySampleResponse(answer.query, 0, 0) for answer in answers]
        )
        for answer in answers:
            check(answer)

    sent, together = [request.sent for request in requests], plan.scenario == "Offline"
    with Sender(url, sent, take, connection_class, plan.at_once, due_together=together) as sender:

        def issue(samples: list["mlperf_loadgen.QuerySample"]) -> None:
            sender.send([(sample.id, sample.index) for sample in samples])

        sut = mlperf_loadgen.ConstructSUT(issue, _nothing)
        qsl = mlperf_loadgen.ConstructQSL(len(requests), len(requests), _ignore, _ignore)
        process = psutil.Process()
        used, stolen, began = sum(process.cpu_times()[:2]), psutil.cpu_times().steal, time.perf_counter()
        try:
            mlperf_loadgen.StartTestWithLogSettings(sut, qsl, _settings(plan), _logs(folder))
        finally:
            mlperf_loadgen.DestroyQSL(qsl)
            mlperf_loadgen.DestroySUT(sut)
        seconds = time.perf_counter() - began
        share = (sum(process.cpu_times()[:2]) - used) / seconds
        stolen_share = (psutil.cpu_times().steal - stolen) / (seconds * (psutil.cpu_count() or 1))
        late = sender.late / max(1, sender.sent)
    outcome = Outcome(plan, True, 0.0, {}, seen, statuses, refusals, seconds, late, share, stolen_share)
    if plan.accuracy:
        outcome.accuracy = _accuracy(folder, requests)
    else:
        _read_summary(folder, outcome)
    if late > LATE_SHARE:
        outcome.reasons.append(f"{late:.1%} of the requests were sent late")
    if seen.failures:
        # LoadGen knows answers, not what is in them: a server that refuses at once would be its fastest.
        outcome.reasons.append(f"{seen.failures.total():,} requests failed")
    if seen.wrong_labels:
        outcome.reasons.append(f"{seen.wrong_labels.total():,} wrong labels")
    return outcome


class LoadGenFailed(FashionMNISTError):
    """LoadGen did not say what came of a run."""

    code = "loadgen_failed"


def _settings(plan: Plan) -> "mlperf_loadgen.TestSettings":
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, plan.scenario)
    mode = mlperf_loadgen.TestMode
    settings.mode = mode.AccuracyOnly if plan.accuracy else mode.PerformanceOnly
    settings.min_duration_ms = round(1e3 * plan.seconds)
    settings.min_query_count = max(1, plan.queries)
    settings.server_target_qps = plan.rate or 1.0
    settings.server_target_latency_ns = round(1e6 * plan.bound_ms)
    settings.server_target_latency_percentile = 0.99
    # LoadGen writes down all queries before it begins, as many as may fit: faster ones than these would end it early.
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = 100_000
    settings.multi_stream_samples_per_query = STREAMS
    settings.offline_expected_qps = plan.rate or 1.0
    return settings


def _logs(folder: Path) -> "mlperf_loadgen.LogSettings":
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = mlperf_loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    return logs


def _read_summary(folder: Path, outcome: Outcome) -> None:
    path = folder / "mlperf_log_summary.txt"
    said = path.read_text() if path.exists() else ""
    result = re.search(r"^Result is : (\w+)", said, flags=re.MULTILINE)
    if result is None:
        raise LoadGenFailed(f"LoadGen left no result in {path}: see mlperf_log_detail.txt beside it")
    outcome.valid = result[1] == "VALID"
    rate = re.search(r"^(?:Completed samples|Samples) per second\s*: ([\d.]+)", said, flags=re.MULTILINE)
    outcome.completed_per_s = float(rate[1]) if rate else outcome.seen.requests / outcome.seconds
    if outcome.plan.scenario == "Offline":
        if latencies := outcome.seen.distribution():
            outcome.percentiles_ms = {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99)}
        return
    for share, nanoseconds in re.findall(r"^(\d\d\.\d+) percentile latency \(ns\)\s*: (\d+)", said, flags=re.MULTILINE):
        outcome.percentiles_ms[f"p{float(share):g}"] = int(nanoseconds) / 1e6


def _accuracy(folder: Path, requests: Sequence[Request]) -> float:
    """The share of images that have their request's labels, by LoadGen's accuracy log."""
    right = total = 0
    for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text()):
        found = array.array("q", bytes.fromhex(entry["data"]))
        wanted = requests[entry["qsl_idx"]].labels
        if len(found) == len(wanted):
            right += sum(index == _INDICES[label] for index, label in zip(found, wanted, strict=True))
        total += len(wanted)
    return right / total if total else 0.0


def _nothing() -> None:
    """There is nothing to flush: a query is sent when it is issued."""


def _ignore(samples: list[int]) -> None:
    """All requests are in memory anyway."""
