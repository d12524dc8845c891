"""How cost grows: with connections, with images a body, with processes and with threads of ONNX Runtime.

Everything that is compared runs interleaved, so that what else the machine does hits all alike; only ratios within one
run mean anything elsewhere.
"""

import contextlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import load, servers
from benchmarks.client import classify_packed
from benchmarks.load import Bodies, Load, RunFailed
from benchmarks.machine import machine
from benchmarks.report import markdown_table
from benchmarks.servers import Server
from fashion_mnist import dataset
from fashion_mnist.atomic import write_text
from fashion_mnist.commit import commit
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import model_store_path
from fashion_mnist.predictions import OCTET_STREAM
from fashion_mnist.settings import Settings
from loadtest.report import svg

CONNECTIONS: Final = (1, 4, 16, 64, 256)
IMAGES: Final = (1, 4, 16, 64, 256, 1024, 4096)
PACKED_CONNECTIONS: Final = 4
"""That packed bodies come over: enough that one is always in line while another is computed."""

PROCESSES: Final = {"embedded": "gateways", "torchserve": "workers"}
"""What there is more of, by engine."""

GOAL: Final = 1_000_000
"""Images a second, on paper."""


class Variant(NamedTuple):
    """One way to run the service."""

    engine: str
    processes: int
    threads: int

    def __str__(self) -> str:
        what = PROCESSES[self.engine][: None if self.processes > 1 else -1]
        return f"{self.processes} {what}, {self.threads} thread{'s' if self.threads > 1 else ''}"


class Traffic(NamedTuple):
    """What a load sends."""

    connections: int
    images: int
    """A body."""


@dataclass(frozen=True)
class Point:
    """What one variant did under one load: medians of the repeats."""

    engine: str
    processes: int
    threads: int
    connections: int
    images: int
    images_per_s: float
    lowest: float
    highest: float
    p50_ms: float
    p99_ms: float
    images_per_cpu_s: float
    """For each second of processor time of all the server's processes; the load generator's is not in it."""

    @property
    def traffic(self) -> Traffic:
        """Under what."""
        return Traffic(self.connections, self.images)


Points = Mapping[tuple[Variant, Traffic], Point]

VARIANTS: Final = [Variant(engine, *how) for engine in PROCESSES for how in ((1, 1), (1, 2), (2, 1), (2, 2))]
SWEEPS: Final = {
    "connections, one image a body": [Traffic(connections, 1) for connections in CONNECTIONS],
    f"images a body, {PACKED_CONNECTIONS} connections": [Traffic(PACKED_CONNECTIONS, images) for images in IMAGES],
}
SINGLE: Final = Traffic(64, 1)
PACKED: Final = Traffic(PACKED_CONNECTIONS, 1024)


def run(output: Path, *, device: str = "cpu", quick: bool = False) -> str:
    """Measure, print and keep table, figures and plot; returns the table. Raises RunFailed."""
    load.require_wrk()
    repeats, seconds = (1, 1) if quick else (3, 2)
    variants = VARIANTS[:1] + VARIANTS[-1:] if quick else VARIANTS
    traffics = [SINGLE, PACKED] if quick else sorted({traffic for sweep in SWEEPS.values() for traffic in sweep})
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="fm-") as name,
        contextlib.ExitStack() as stack,
        console.status("starting the servers") as status,
    ):
        found, exchange = _measure(Path(name), stack, device, variants, traffics, repeats, seconds, status.update)
    heading = (
        f"{machine(device)}, load generator included; {time.strftime('%Y-%m-%d')}, commit {commit()}; "
        f"medians of {repeats} interleaved runs of {seconds} s; images/s, and in brackets p99 in ms."
    )
    text = "\n\n".join([heading, *_tables(found), on_paper(found, exchange)]) + "\n"
    output.mkdir(parents=True, exist_ok=True)
    document = {"commit": commit(), "machine": machine(device), "exchange_bytes": exchange}
    document |= {"points": [asdict(point) for point in found.values()]}
    write_text(output / "scaling.json", json.dumps(document, indent=2) + "\n")
    write_text(output / "scaling.md", text)
    write_text(output / "scaling.svg", plot(found))
    Console(soft_wrap=True, highlight=False).print(text, markup=False)
    return text


def _measure(
    folder: Path,
    stack: contextlib.ExitStack,
    device: str,
    variants: Sequence[Variant],
    traffics: Sequence[Traffic],
    repeats: int,
    seconds: int,
    tell: Callable[[str], None],
) -> tuple[dict[tuple[Variant, Traffic], Point], dict[int, tuple[int, int]]]:
    settings = Settings.from_environment(device=device)
    images = dataset.load(settings.data).test.images
    expected = open_engine(model_store_path(settings), "onnx", device).predict(images).argmax(axis=1).tolist()
    bodies = {
        count: Bodies.write(
            folder / str(count),
            [images[start : start + count].tobytes() for start in range(0, min(256 * count, len(images)), count)][:256],
            OCTET_STREAM,
            accept="*/*" if count == 1 else OCTET_STREAM,
        )
        for count in sorted({traffic.images for traffic in traffics})
    }
    running: dict[Variant, Server] = {}
    for variant in variants:
        tell(f"starting: {variant.engine}, {variant}")
        counts = {PROCESSES[variant.engine]: variant.processes, "threads": variant.threads}
        # A gateway refuses more than it holds by default, and the largest bodies of all connections are more.
        counts["max_waiting_images"] = PACKED_CONNECTIONS * max(IMAGES)
        name = "-".join(map(str, variant))
        running[variant] = stack.enter_context(servers.fashion_mnist(folder / name, variant.engine, device, **counts))

    def check() -> None:
        for variant, server in running.items():
            tell(f"checking labels: {variant.engine}, {variant}")
            if classify_packed(server.url, images) != expected:
                raise RunFailed(f"{variant.engine}, {variant}: labels that are not the model's: the run is worthless")

    check()
    seen: dict[tuple[Variant, Traffic], list[tuple[Load, float]]] = {}
    for repeat in range(repeats):
        for traffic in traffics:
            for variant, server in running.items():
                tell(
                    f"repeat {repeat + 1} of {repeats}: {traffic.connections} connections, {traffic.images} images "
                    f"a body: {variant.engine}, {variant}"
                )
                before = server.cpu_s()
                found = load.run(server.url, bodies[traffic.images], connections=traffic.connections, seconds=seconds)
                seen.setdefault((variant, traffic), []).append((found, server.cpu_s() - before))
    check()
    exchange = {count: _exchange(next(iter(running.values())).url, sent) for count, sent in bodies.items()}
    return {key: _point(*key, loads) for key, loads in seen.items()}, exchange


def _point(variant: Variant, traffic: Traffic, loads: Sequence[tuple[Load, float]]) -> Point:
    rates = [found.per_second * traffic.images for found, _ in loads]
    return Point(
        *variant,
        *traffic,
        images_per_s=round(statistics.median(rates)),
        lowest=round(min(rates)),
        highest=round(max(rates)),
        p50_ms=round(statistics.median(found.p50_ms for found, _ in loads), 2),
        p99_ms=round(statistics.median(found.p99_ms for found, _ in loads), 2),
        images_per_cpu_s=round(
            statistics.median(found.requests * traffic.images / max(used, 0.01) for found, used in loads)
        ),
    )


def _exchange(url: str, bodies: Bodies) -> tuple[int, int]:
    """Bytes of a question and of its answer, heads included, TCP's and below it not."""
    headers = {"content-type": bodies.content_type, "accept": bodies.accept}
    answer = httpx.post(url, content=(bodies.folder / "0").read_bytes(), headers=headers, timeout=10)
    asked = sum(len(name) + len(value) + 4 for name, value in answer.request.headers.raw)
    answered = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
    first_lines = len(f"POST {answer.request.url.path} HTTP/1.1\r\n\r\n"), len("HTTP/1.1 200 OK\r\n\r\n")
    return asked + first_lines[0] + len(answer.request.content), answered + first_lines[1] + len(answer.content)


def _tables(found: Points) -> list[str]:
    """What each sweep gave, and what a second of processor time buys, for each engine."""
    tables = []
    for engine in PROCESSES:
        variants = list(dict.fromkeys(variant for variant, _ in found if variant.engine == engine))
        names = [str(variant) for variant in variants]
        for title, sweep in SWEEPS.items():
            rows = [
                [f"{_swept(title, traffic):,}", *(_rate(found[variant, traffic]) for variant in variants)]
                for traffic in sweep
                if (variants[0], traffic) in found
            ]
            tables.append("\n".join(markdown_table([f"{engine}: {title}", *names], rows)))
        rows = [
            [
                f"{traffic.connections} connections, {traffic.images:,} a body",
                *(f"{found[variant, traffic].images_per_cpu_s:,}" for variant in variants),
            ]
            for traffic in (SINGLE, PACKED)
        ]
        tables.append("\n".join(markdown_table([f"{engine}: images per second of processor time", *names], rows)))
    return tables


def _swept(title: str, traffic: Traffic) -> int:
    return traffic.connections if title.startswith("connections") else traffic.images


def _rate(point: Point) -> str:
    return f"{point.images_per_s:,.0f} ({point.p99_ms:.1f})"


def on_paper(found: Points, exchange: Mapping[int, tuple[int, int]]) -> str:
    """What GOAL images a second would take, if cores were all: the best variant of each engine."""
    rows = []
    for traffic in (SINGLE, PACKED):
        asked, answered = exchange[traffic.images]
        requests = GOAL / traffic.images
        for engine in PROCESSES:
            points = [point for (variant, sent), point in found.items() if (variant.engine, sent) == (engine, traffic)]
            best = max(point.images_per_cpu_s for point in points)
            rows.append(
                [
                    f"{engine}, bodies of {traffic.images:,}",
                    f"{best:,}",
                    f"{math.ceil(GOAL / best):,}",
                    f"{requests:,.0f}",
                    f"{requests * asked * 8 / 1e9:.1f}",
                    f"{requests * answered * 8 / 1e9:.1f}",
                ]
            )
    heading = [
        f"for {GOAL:,} images/s",
        "images per second of a core",
        "cores",
        "requests/s",
        "Gbit/s in",
        "Gbit/s out",
    ]
    return "\n".join(markdown_table(heading, rows))


def plot(found: Points) -> str:
    """Images a second and p99 by connections and by images a body; SVG."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col")
    for column, (title, sweep) in enumerate(SWEEPS.items()):
        for variant in dict.fromkeys(variant for variant, _ in found):
            points = [found[variant, traffic] for traffic in sweep if (variant, traffic) in found]
            at = [_swept(title, point.traffic) for point in points]
            line = {"linestyle": "-" if variant.engine == "embedded" else "--", "marker": "."}
            rates, p99s = [point.images_per_s for point in points], [point.p99_ms for point in points]
            grid[0][column].plot(at, rates, label=f"{variant.engine}, {variant}", **line)
            grid[1][column].plot(at, p99s, **line)
        for axes, what in ((grid[0][column], "images/s"), (grid[1][column], "p99, ms")):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_ylabel(what)
            axes.grid(alpha=0.3)
        grid[1][column].set_xlabel(title)
    grid[0][0].legend(fontsize="x-small")
    return svg(figure)
