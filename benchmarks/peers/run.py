"""This service beside other model servers: the same graph, images and machine, in one run of interleaved rounds.

Not all of them fit beside each other, and some are busy while nobody asks. So in each round every server is started,
warmed, measured and ended by itself, and the rounds are repeated, each in an order of its own.
"""

import contextlib
import json
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import environments, load
from benchmarks.client import classify_singly
from benchmarks.load import Bodies, Load, RunFailed
from benchmarks.machine import machine
from benchmarks.peers import report
from benchmarks.peers.catalogue import LIMIT, PHOTOGRAPHS, Peer, peers
from benchmarks.peers.family import Family, family
from benchmarks.peers.kinds import Kind
from benchmarks.servers import Server
from benchmarks.stock import expected_labels
from fashion_mnist.data import dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import FashionMNISTError, UsageError
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit

CONNECTIONS: Final = (1, 64)
CYCLED: Final = 256
"""Different images that the load generator sends, over and over."""
ALONE: Final = "ONNX Runtime alone"


class Size(NamedTuple):
    """How long a run is."""

    rounds: int
    warm_s: int
    """Of load before what is measured, for virtual machines that compile what is often run."""
    seconds: int
    """Of one load."""
    checked: int
    """Images whose labels are checked before anything is measured."""
    bound_s: float
    """No further round is begun that would, by the one before, end later."""


FULL: Final = Size(rounds=3, warm_s=2, seconds=3, checked=1000, bound_s=15 * 60)
QUICK: Final = Size(rounds=1, warm_s=1, seconds=1, checked=64, bound_s=15 * 60)


class _Sample(NamedTuple):
    """One load, and what the server used meanwhile."""

    load: Load
    cpu_s: float
    memory_mib: dict[str, float]


def run(output: Path, *, quick: bool = False, only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure, print and write peers.json, peers.md and peers.svg to `output`; the figures.

    `only` names peers, all by default. A peer that cannot be installed or started, fails a request or gives a wrong
    label has the reason in place of figures, and the others go on. Raises UsageError for a name that is no peer's.
    """
    load.require_wrk()
    console = Console()
    size = QUICK if quick else FULL
    chosen = _choose(only)
    with tempfile.TemporaryDirectory(prefix="fm-") as name, console.status("") as status:
        rounds = _Rounds(chosen, Path(name), size, status.update)
        rounds.install()
        started = time.monotonic()
        done = 0
        while done < size.rounds and (not done or (time.monotonic() - started) * (1 + 1 / done) < size.bound_s):
            done += 1
            rounds.one(done)
    results = {
        "machine": {"name": machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "rounds": done,
        "seconds": size.seconds,
        "labels_checked": size.checked,
        "versions": {each.name: environments.version(each.environment) for each in chosen if each.environment},
        "rows": rounds.rows(),
    }
    markdown = report.markdown(results)
    console.print(markdown, markup=False, highlight=False, soft_wrap=True)
    output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(output / "peers.json", json.dumps(results, indent=2) + "\n")
    atomic.write_text(output / "peers.md", markdown)
    atomic.write_text(output / "peers.svg", report.plot(results))
    console.print(f"written: {', '.join(str(output / f'peers.{kind}') for kind in ('json', 'md', 'svg'))}")
    return results


def _choose(only: Sequence[str]) -> list[Peer]:
    known = list(dict.fromkeys(each.name for each in peers()))
    if strange := sorted(set(only) - set(known)):
        raise UsageError(f"no peer is called {strange[0]!r}: one of {', '.join(known)}")
    return [each for each in peers() if not only or each.name in only]


class _Rounds:
    """The peers, what is sent to them, and what came of it."""

    def __init__(self, chosen: Sequence[Peer], folder: Path, size: Size, tell: Callable[[str], None]) -> None:
        settings = Settings.from_environment(device="cpu")
        self._store = model_store_path(settings)
        self._folder, self._size, self._tell = folder, size, tell
        self._chosen = list(chosen)
        self._images = dataset.load(settings.data).test.images[: size.checked]
        self._engine = open_engine(self._store, "onnx", "cpu", threads=1)
        self._labels: list[int] = self._engine.predict(self._images).argmax(axis=1).tolist()
        self._bodies: dict[str, Bodies] = {}
        self._samples: dict[tuple[Peer, int], list[_Sample]] = {}
        self._failed: dict[Peer, str] = {}
        self._alone: dict[int, list[_Sample]] = {connections: [] for connections in CONNECTIONS}

    def install(self) -> None:
        """Make the environments that are not there yet; before the clock runs."""
        for peer in self._chosen:
            if peer.environment:
                self._tell(f"installing {peer.name}")
                with self._noted(peer):
                    environments.python(peer.environment)

    def one(self, number: int) -> None:
        """Everybody once, each round in another order; a round's order is always the same."""
        order = [peer for peer in self._chosen if peer not in self._failed]
        random.Random(number).shuffle(order)
        for place, peer in enumerate(order):
            self._tell(f"round {number} of {self._size.rounds}, {place + 1} of {len(order)}: {peer.name}, {peer.setup}")
            with self._noted(peer), family() as started:
                folder = self._folder / f"{number}-{place}"
                with peer.start(folder) as server:
                    self._measure(peer, server, started, check=number == 1)
        self._tell(f"round {number} of {self._size.rounds}: {ALONE}")
        for images in CONNECTIONS:
            self._alone[images].append(self._measure_alone(images))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each peer and number of connections: medians over the rounds, or the reason why there are none."""
        rows = []
        for connections in CONNECTIONS:
            for peer in self._chosen:
                if connections not in _connections(peer):
                    continue
                named = {
                    "server": peer.name,
                    "setup": peer.setup,
                    "body": peer.kind.name,
                    "connections": connections,
                }
                if reason := self._failed.get(peer):
                    rows.append({**named, "reason": reason})
                else:
                    rows.append({**named, **_medians(self._samples[peer, connections])})
            named = {"server": ALONE, "setup": LIMIT, "body": "no server", "connections": connections}
            rows.append({**named, **_medians(self._alone[connections], images=connections)})
        return rows

    def _measure(self, peer: Peer, server: Server, started: Family, *, check: bool) -> None:
        if check:
            self._check_labels(peer, server)
        bodies = self._write(peer.kind)
        load.run(server.url, bodies, connections=max(_connections(peer)), seconds=self._size.warm_s)
        for connections in _connections(peer):
            before = started.cpu_s(server.pid)
            seen = load.run(server.url, bodies, connections=connections, seconds=self._size.seconds)
            used = started.cpu_s(server.pid) - before
            sample = _Sample(seen, used, started.memory_mib(server.pid))
            self._samples.setdefault((peer, connections), []).append(sample)

    def _check_labels(self, peer: Peer, server: Server) -> None:
        kind = peer.kind
        images = self._images[:1] if kind.of_one_image else self._images
        sent = [kind.write(image) for image in images]
        found = classify_singly(server.url, sent, kind.content_type, headers=kind.headers, read=kind.read)
        if peer.setup in (LIMIT, PHOTOGRAPHS):
            return
        right = expected_labels(self._store / "weights.pt", self._images) if peer.rounded else self._labels
        if wrong := sum(one != other for one, other in zip(found, right, strict=True)):
            raise RunFailed(f"{wrong} of {len(right)} labels are not the model's")

    def _measure_alone(self, images: int) -> _Sample:
        """The engine in this process, without a server: so many images a call."""
        batch = self._images[np.arange(images) % len(self._images)]
        self._engine.predict(batch)
        took: list[float] = []
        used, began = time.process_time(), time.perf_counter()
        while (now := time.perf_counter()) - began < self._size.seconds:
            self._engine.predict(batch)
            took.append(1000 * (time.perf_counter() - now))
        seconds, used = time.perf_counter() - began, time.process_time() - used
        p50, p99 = np.percentile(took, (50, 99)).tolist()
        return _Sample(Load(len(took), images * len(took) / seconds, p50, p99), used, {})

    def _write(self, kind: Kind) -> Bodies:
        if kind.name not in self._bodies:
            images = self._images[: 1 if kind.of_one_image else CYCLED]
            bodies = [kind.write(image) for image in images]
            folder = self._folder / f"bodies-{len(self._bodies)}"
            self._bodies[kind.name] = Bodies.write(folder, bodies, kind.content_type, headers=kind.headers)
        return self._bodies[kind.name]

    @contextlib.contextmanager
    def _noted(self, peer: Peer) -> Iterator[None]:
        """What goes wrong within ends this peer's row, and no other's."""
        try:
            yield
        except (FashionMNISTError, OSError, subprocess.SubprocessError) as error:
            self._failed[peer] = str(error)


def _connections(peer: Peer) -> Sequence[int]:
    """A photograph keeps a core busy for so long that one connection is a load."""
    return CONNECTIONS[:1] if peer.setup == PHOTOGRAPHS else CONNECTIONS


def _medians(samples: Sequence[_Sample], images: int = 1) -> dict[str, Any]:
    """Of each figure over the rounds, and the spread of the rate. A request of `load` has so many images."""
    rates = [sample.load.per_second for sample in samples]
    figures: dict[str, Any] = {
        "per_second": round(statistics.median(rates)),
        "lowest": round(min(rates)),
        "highest": round(max(rates)),
        "p50_ms": round(statistics.median(sample.load.p50_ms for sample in samples), 3),
        "p99_ms": round(statistics.median(sample.load.p99_ms for sample in samples), 3),
        "cpu_s_per_1000": round(
            statistics.median(1000 * sample.cpu_s / (images * sample.load.requests) for sample in samples), 4
        ),
    }
    for name in samples[0].memory_mib:
        figures[f"{name}_mib"] = round(statistics.median(sample.memory_mib[name] for sample in samples), 1)
    return figures
