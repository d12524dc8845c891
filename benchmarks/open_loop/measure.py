"""What this service stands when nobody waits for it: MLPerf inference's scenarios, driven by MLCommons' LoadGen.

A closed loop asks a slow server less, and so hides how long real clients would have waited. Here queries come when they
come, by a Poisson process, and latencies are counted from the moment at which each was due.
"""

import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console

from benchmarks import servers
from benchmarks.load import RunFailed
from benchmarks.machine import machine
from benchmarks.open_loop import loadgen
from benchmarks.open_loop.loadgen import Outcome, Plan
from benchmarks.open_loop.row import Row
from benchmarks.report import markdown_table
from benchmarks.servers import Server
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_card, model_store_path
from fashion_mnist.settings import Settings
from fashion_mnist.system.atomic import write_text
from fashion_mnist.system.commit import commit
from loadtest import report
from loadtest.kinds import find_kind
from loadtest.recorder import quantile
from loadtest.requests import Request, prepare
from serving import processes

BOUND_MS: Final = 10.0
"""What 99 % of the answers of `Server` may take at most."""

HALF_MS: Final = 5.0
"""What is aimed at for 99 % of the answers at half of that rate."""

GROWTH: Final = 1.02
"""How many times the memory after a soak's first tenth a process may have after its last."""

STEADY: Final = 2.0
"""How many times the lowest p99 of a soak's tenths the highest may be."""

GOODPUT: Final = 0.9
"""What is aimed at of a rate, in right answers, where twice as many are asked for."""

OVERLOAD_IMAGES: Final = 16
"""Images a body of overload. Of single images the generator cannot send twice as many as the server can do."""

PACKED_IMAGES: Final = 1024
"""Images a body of Offline."""

OTHER_LOAD: Final = 0.1
"""Of the machine's cores that others may use: more, and a run is INVALID."""

ENGINES: Final = ("embedded", "torchserve")


@dataclass(frozen=True)
class _Size:
    seconds: float
    confirm_s: float
    confirm_queries: int
    steps: int
    tries: int
    repeats: int


_WHOLE: Final = _Size(5, 60, loadgen.SERVER_QUERIES, steps=6, tries=8, repeats=3)
_QUICK: Final = _Size(1, 1, 10, steps=1, tries=1, repeats=1)


def run(
    output: Path,
    *,
    device: str = "cpu",
    quick: bool = False,
    soak_s: int = 0,
    rate: float = 0.0,
    engines: Sequence[str] = ENGINES,
    kind: str = "binary",
) -> str:
    """Measure, print and keep tables, figures and plots; returns the tables. Raises RunFailed, and UsageError.

    The soak takes half of the highest rate found, queries a second; with `rate` it takes that, and nothing else is
    measured. `kind` is what is sent, as `loadtest.kinds` names it.
    """
    if rate and not soak_s:
        raise UsageError("a rate is that of a soak: say how many seconds it takes, --soak 3600")
    if unknown := set(engines) - set(ENGINES):
        raise UsageError(f"no engine is called {', '.join(sorted(unknown))}: there are {' and '.join(ENGINES)}")
    size = _QUICK if quick else _WHOLE
    console = Console(stderr=True)
    bodies = _Bodies(
        single=prepare([find_kind(kind)]),
        several=[] if rate else prepare([find_kind(f"{kind} x {OVERLOAD_IMAGES}")]),
        packed=[] if rate else prepare([find_kind(f"{kind} x {PACKED_IMAGES}")]),
        every=prepare([find_kind(kind)], requests=None),
    )
    found: dict[str, Any] = {}
    tables = [
        f"{machine(device)}; {time.strftime('%Y-%m-%d')}, commit {commit()}; `{kind}` bodies; LoadGen's Server "
        f"scenario with 99 % within {BOUND_MS:g} ms; medians of {size.repeats}."
    ]
    output.mkdir(parents=True, exist_ok=True)
    name, pinnings = "open-loop", [True, False] if (os.cpu_count() or 1) > 1 else [False]
    if rate:
        name, pinnings = "soak", pinnings[:1]
    if kind != "binary":
        name += f"-{kind}"
    for engine in engines:
        for pinned in pinnings:
            title = f"{engine}, {'server and generator on a core each' if pinned else 'not pinned'}"
            with (
                tempfile.TemporaryDirectory(prefix="fm-") as folder,
                servers.fashion_mnist(Path(folder) / "server", engine, device) as server,
                _pinned(server, pinned),
            ):
                folder_of_logs = output / "loadgen" / f"{name}-{engine}-{pinned}"
                measuring = _Measuring(server, bodies, size, console, folder_of_logs)
                measuring.begin()
                if rate:
                    measuring.soak(rate, soak_s)
                else:
                    measuring.all(soak_s if pinned else 0)
            found[title] = [dataclasses.asdict(row) for row in measuring.rows]
            heading = [title, "figure", "p50, ms", "p99, ms", "stolen, %", "verdict"]
            tables.append("\n".join(markdown_table(heading, [row.cells() for row in measuring.rows])))
            write_text(output / f"{name}-{engine}-{pinned}.svg", report.plot(measuring.distributions))
    table = "\n\n".join(tables) + "\n"
    write_text(output / f"{name}.json", json.dumps({"commit": commit(), "engines": found}, indent=2) + "\n")
    write_text(output / f"{name}.md", table)
    Console(soft_wrap=True, highlight=False).print(table, markup=False)
    return table


@dataclass(frozen=True)
class _Bodies:
    """What is sent: bodies of one image, of several, of many, and of one with all test images among them."""

    single: Sequence[Request]
    several: Sequence[Request]
    packed: Sequence[Request]
    every: Sequence[Request]


class _Measuring:
    """One server, and what was seen of it."""

    def __init__(self, server: Server, bodies: _Bodies, size: _Size, console: Console, folder: Path) -> None:
        self._server, self._bodies, self._size, self._console, self._folder = server, bodies, size, console, folder
        self._url = server.grpc_url() if bodies.single[0].kind.grpc else server.url
        self._runs = 0
        self.rows: list[Row] = []
        self.distributions: dict[str, Mapping[int, int]] = {}

    def begin(self) -> None:
        """Warm up, and check every label."""
        self._run("warming up", self._bodies.single, Plan("Offline", 1, rate=5000, at_once=32))
        self._accuracy()

    def all(self, soak_s: int) -> None:
        """Everything, in the order of the table."""
        size, singles = self._size, self._bodies.single
        for scenario in ("SingleStream", "MultiStream"):
            outcomes = self._repeat(scenario, singles, Plan(scenario, size.seconds))
            self._add(f"{scenario}, p{90 if scenario == 'SingleStream' else 99}", outcomes, "ms", _stream_ms)
        offline = self._closed("Offline", self._bodies.packed, at_once=2, tried=1000)
        self._add(f"Offline, bodies of {PACKED_IMAGES:,} images", offline, "images/s", _right_per_s)
        closed = 0.0
        for at_once in (1, 64):
            outcomes = self._closed(f"closed_{at_once}", singles, at_once, tried=20_000)
            self._add(f"closed_{at_once}", outcomes, "queries/s", _right_per_s)
            closed = self.rows[-1].figure
        found = self._found("Server", singles, closed)
        peak = self._confirmed("Server", singles, found, size.confirm_s, size.confirm_queries)
        half = self._repeat("Server at half", singles, Plan("Server", size.seconds, rate=peak / 2, bound_ms=BOUND_MS))
        row = self._add("Server at half of that", half, "queries/s", _right_per_s)
        row.aim(f"p99 <= {HALF_MS:g} ms", row.p99_ms is not None and row.p99_ms <= HALF_MS)
        self._overloads()
        if soak_s:
            self.soak(peak / 2, soak_s)

    def _accuracy(self) -> None:
        every = self._bodies.every
        outcome = self._run("accuracy", every, Plan("Offline", 1, rate=1000, at_once=32, accuracy=True))
        expected = model_card(model_store_path(Settings.from_environment()))["evaluation"]["accuracy"]
        images = sum(len(request.labels) for request in every)
        # LoadGen compares with what the model must say; the card says how often that is the truth.
        reasons = outcome.reasons + ([] if outcome.accuracy == 1.0 else ["labels that are not the released model's"])
        name = f"accuracy mode: labels as the model's, {images:,} images (its card: {expected:.2%})"
        self.rows.append(
            Row(name, 100 * (outcome.accuracy or 0.0), "%", None, None, outcome.stolen_share, True, reasons)
        )

    def _found(self, name: str, requests: Sequence[Request], closed: float) -> float:
        """The highest rate of queries at which 99 % come within the bound, by short runs."""
        low, high = 0.0, closed * 1.1
        for _ in range(self._size.steps):
            rate = (low + high) / 2 if low else high * 0.7
            plan = Plan("Server", self._size.seconds, 100, rate, BOUND_MS)
            outcome = self._run(f"{name} at {rate:,.0f}", requests, plan)
            if outcome.percentiles_ms.get("p99", 1e9) <= BOUND_MS and not outcome.seen.failures:
                low = rate
            else:
                high = rate
        return low or high

    def _confirmed(self, name: str, requests: Sequence[Request], rate: float, seconds: float, queries: int) -> float:
        """That rate, or the next lower one at which all runs of so many seconds are VALID; they make the row."""
        confirmed: list[Outcome] = []
        for tries in range(self._size.tries):
            plan = Plan("Server", seconds, queries, rate, BOUND_MS)
            outcome = self._run(f"{name} at {rate:,.0f}, confirmed", requests, plan)
            if (not outcome.valid or outcome.seen.failures) and tries + self._size.repeats < self._size.tries:
                confirmed.clear()
                rate *= 0.93
                continue
            confirmed.append(outcome)
            if len(confirmed) == self._size.repeats:
                break
        self._add(name, confirmed, "queries/s" if requests[0].kind.images == 1 else "images/s", _right_per_s)
        self.distributions[name] = confirmed[0].seen.distribution()
        return rate

    def _overloads(self) -> None:
        """Twice the highest rate, and twice what the server can do without a bound on how long it takes."""
        several, size, bodies = self._bodies.several, self._size, f"bodies of {OVERLOAD_IMAGES} images"
        name = f"closed_64, {bodies}"
        self._add(name, self._closed(name, several, at_once=64, tried=5000), "images/s", _right_per_s)
        most = self.rows[-1]
        found = self._found(f"Server, {bodies}", several, most.figure / OVERLOAD_IMAGES)
        self._confirmed(f"Server, {bodies}", several, found, size.seconds, queries=100)
        self._overload("overload, twice that", self.rows[-1])
        self._overload("overload, twice closed_64", most)

    def _overload(self, name: str, peak: Row) -> None:
        """Twice a rate: as many right answers as at that, nearly, and the rest refused at once."""
        several, rate = self._bodies.several, 2 * peak.figure / OVERLOAD_IMAGES
        outcomes = self._repeat(name, several, Plan("Server", self._size.seconds, 100, rate, BOUND_MS, refusals=True))
        refusals: Counter[int] = Counter()
        for outcome in outcomes:
            outcome.valid = True  # LoadGen's bound is meant to be missed
            refusals.update(outcome.refusals)
        row = self._add(f"{name}: right answers", outcomes, "images/s", _right_per_s)
        # Theirs alone: a refusal is faster.
        right = self.distributions[name]
        row.p50_ms, row.p99_ms = (quantile(right, share) if right else None for share in (0.5, 0.99))
        if not peak.valid or peak.reasons:
            row.reasons.append("the rate that it is twice of is not sure")
        share = row.figure / peak.figure if peak.figure else 0.0
        row.aim(f"{share:.0%} of that, >= {GOODPUT:.0%}", share >= GOODPUT)
        if refusals:
            refused_ms = quantile(refusals, 0.99)
            refused = refusals.total() / sum(outcome.statuses.total() for outcome in outcomes)
            row.aim(f"{refused:.0%} refused, p99 {refused_ms:.2f} ms, <= {BOUND_MS:g} ms", refused_ms <= BOUND_MS)
        else:
            row.aims.append("nothing refused")

    def soak(self, rate: float, seconds: int) -> None:
        """A tenth of the time at a go, so that what grows is seen to grow: after the first of them nothing should."""
        outcomes: list[Outcome] = []
        memory = [self._server.rss_mb()]
        for part in range(1, 11):
            plan = Plan("Server", seconds / 10, 100, rate, BOUND_MS)
            outcomes.append(self._run(f"soak {part} of 10", self._bodies.single, plan))
            memory.append(self._server.rss_mb())
        p99s = [outcome.percentiles_ms["p99"] for outcome in outcomes]
        row = self._add(f"soak, {seconds:,} s", outcomes, "queries/s", _right_per_s)
        row.aim(f"p99 of its tenths within {STEADY:g} times each other", max(p99s) <= STEADY * min(p99s))
        before, first, last = memory[0], memory[1], memory[-1]
        for name, mb in first.items():
            row.aim(f"{name} within {GROWTH:g} times its memory after the first", last[name] <= GROWTH * mb)
        said = ", ".join(f"{name} {before[name]:.1f}, {first[name]:.1f}, {last[name]:.1f}" for name in first)
        row.name += (
            f": p99 of its tenths {min(p99s):.2f} to {max(p99s):.2f} ms; MiB before it, after the first tenth, "
            f"after the last: {said}"
        )

    def _rate(self, name: str, requests: Sequence[Request], at_once: int, tried: float) -> float:
        """Queries a second that the server answers to so many clients, roughly."""
        plan = Plan("Offline", self._size.seconds / 10, rate=tried, at_once=at_once)
        return self._run(f"{name}, its rate", requests, plan).completed_per_s

    def _closed(self, name: str, requests: Sequence[Request], at_once: int, tried: float) -> list[Outcome]:
        """LoadGen hands out as many as fit into the time by the rate it is told: too few, and the run is too short."""
        rate = 1.5 * self._rate(name, requests, at_once, tried)
        return self._repeat(name, requests, Plan("Offline", self._size.seconds, rate=rate, at_once=at_once))

    def _repeat(self, name: str, requests: Sequence[Request], plan: Plan) -> list[Outcome]:
        outcomes = [self._run(name, requests, plan) for _ in range(self._size.repeats)]
        total: Counter[int] = Counter()
        for outcome in outcomes:
            total.update(outcome.seen.distribution())
        self.distributions[name] = total
        return outcomes

    def _run(self, name: str, requests: Sequence[Request], plan: Plan) -> Outcome:
        self._runs += 1
        self._console.print(f"{name}", style="dim")
        busy, ours = _busy_s(), self._ours_s()
        outcome = loadgen.run(self._url, requests, plan, self._folder / f"{self._runs:02}-{name.replace(' ', '-')}")
        other = (_busy_s() - busy - (self._ours_s() - ours)) / (outcome.seconds * (os.cpu_count() or 1))
        if other > OTHER_LOAD:
            outcome.reasons.append(f"others used {other:.0%} of the machine")
        if outcome.seen.wrong_labels:
            raise RunFailed(f"{name}: {outcome.seen.wrong_labels.total():,} wrong labels: the run is worthless")
        return outcome

    def _ours_s(self) -> float:
        return self._server.cpu_s() + sum(psutil.Process().cpu_times()[:2])

    def _add(self, name: str, outcomes: Sequence[Outcome], unit: str, figure: Any) -> Row:
        percentiles = {
            share: statistics.median(outcome.percentiles_ms[share] for outcome in outcomes)
            for share in ("p50", "p99")
            if all(share in outcome.percentiles_ms for outcome in outcomes)
        }
        row = Row(
            name,
            statistics.median(figure(outcome) for outcome in outcomes),
            unit,
            percentiles.get("p50"),
            percentiles.get("p99"),
            max(outcome.stolen_share for outcome in outcomes),
            all(outcome.valid for outcome in outcomes),
            sorted({reason for outcome in outcomes for reason in outcome.reasons}),
            any(outcome.generator_bound for outcome in outcomes),
        )
        self.rows.append(row)
        return row


def _stream_ms(outcome: Outcome) -> float:
    return outcome.percentiles_ms["p90" if outcome.plan.scenario == "SingleStream" else "p99"]


def _right_per_s(outcome: Outcome) -> float:
    return outcome.goodput_per_s


def _busy_s() -> float:
    """Seconds of all cores that were not idle."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


@contextmanager
def _pinned(server: Server, wanted: bool) -> Iterator[None]:
    """The server's processes on the first core, and this one on the second."""
    cores = sorted(os.sched_getaffinity(0))
    if not wanted:
        yield
        return
    for process in processes.tree(server.pid):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores[:1])
    # Threads that are started from now on stay where this one is.
    os.sched_setaffinity(0, cores[1:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
