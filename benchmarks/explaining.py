"""What explanations cost predictions: the latency of these by themselves, and beside one client that asks for more."""

import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import load, servers
from benchmarks.load import Bodies
from benchmarks.machine import machine
from benchmarks.report import markdown_table
from fashion_mnist.data import dataset
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit

P99_RATIO: Final = 1.1
"""At most, of the p99 beside explanations to that without."""

CONNECTIONS: Final = 8
_OCTET_STREAM: Final = "application/octet-stream"


def run(output: Path, *, quick: bool = False) -> dict[str, Any]:
    """Measure, print, and write explaining.json and explaining.md to `output`; the figures. Raises RunFailed."""
    load.require_wrk()
    settings = Settings.from_environment()
    image = dataset.load(settings.data).test.images[0].tobytes()
    with tempfile.TemporaryDirectory(prefix="fm-") as name:
        folder = Path(name)
        bodies = Bodies.write(folder / "bodies", [image], _OCTET_STREAM)
        with servers.fashion_mnist(folder / "server", "embedded") as server:
            found = _rounds(server, bodies, rounds=3 if quick else 15, seconds=2 if quick else 5)
    results = {
        "machine": {"name": machine(), "cores": os.cpu_count()},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "connections": CONNECTIONS,
        "aim_p99_ratio": P99_RATIO,
        **found,
    }
    text = _markdown(results)
    Console().print(text, markup=False, highlight=False)
    atomic.write_text(output / "explaining.json", json.dumps(results, indent=2) + "\n")
    atomic.write_text(output / "explaining.md", text)
    return results


def _rounds(server: servers.Server, bodies: Bodies, rounds: int, seconds: int) -> dict[str, Any]:
    """Each round both ways, one behind the other: what the machine does meanwhile is then the same for both."""
    url = server.url.replace("/predictions/fashion_mnist", "/explain")
    alone, beside, ratios, explained = [], [], [], []
    for _ in range(rounds):
        alone.append(load.run(server.url, bodies, connections=CONNECTIONS, seconds=seconds))
        with ThreadPoolExecutor(1) as pool:
            explaining = pool.submit(load.run, url, bodies, connections=1, seconds=seconds + 1)
            beside.append(load.run(server.url, bodies, connections=CONNECTIONS, seconds=seconds))
            explained.append(explaining.result().per_second)
        ratios.append(beside[-1].p99_ms / alone[-1].p99_ms)
    return {
        "alone": {name: statistics.median(getattr(each, name) for each in alone) for name in _FIGURES},
        "beside": {name: statistics.median(getattr(each, name) for each in beside) for name in _FIGURES},
        "p99_ratio": statistics.median(ratios),
        "p99_ratios": [round(ratio, 3) for ratio in ratios],
        "explanations_per_second": statistics.median(explained),
    }


_FIGURES: Final = ("per_second", "p50_ms", "p99_ms")


def _markdown(results: dict[str, Any]) -> str:
    rows = [
        [name, *(f"{results[key][figure]:,.2f}" for figure in _FIGURES)]
        for name, key in (
            ("by themselves", "alone"),
            (f"beside {results['explanations_per_second']:.0f} explanations a second", "beside"),
        )
    ]
    lines = [
        f"{results['machine']['name']}; {results['date']}, commit {results['commit']}.",
        "",
        *markdown_table([f"{results['connections']} connections, raw pixels", "a second", "p50, ms", "p99, ms"], rows),
        "",
        f"p99 beside explanations to that without: {results['p99_ratio']:.2f}, the median of "
        f"{len(results['p99_ratios'])} rounds; aim at most {results['aim_p99_ratio']:g}.",
    ]
    return "\n".join(lines) + "\n"
