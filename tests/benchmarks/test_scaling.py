"""How cost grows can be measured again, and the tables say what was measured."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.scaling import GOAL, Point, Traffic, Variant, on_paper, plot
from tests.gateway.command import COMMAND


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt-get install wrk)")
def test_a_quick_run_gives_table_figures_and_plot(tmp_path: Path) -> None:
    command = [COMMAND, "bench", "scaling", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = json.loads((tmp_path / "scaling.json").read_text())
    seen = {(point["engine"], point["processes"], point["connections"], point["images"]) for point in results["points"]}
    assert seen == {
        (engine, processes, *load)
        for engine, processes in (("embedded", 1), ("torchserve", 2))
        for load in ((64, 1), (4, 1024))
    }
    assert all(0 < point["lowest"] <= point["images_per_s"] <= point["highest"] for point in results["points"])
    asked, answered = results["exchange_bytes"]["1024"]
    assert 1024 * 784 < asked < 1024 * 784 + 1000
    assert 1024 * 40 < answered < 1024 * 40 + 1000
    assert "| torchserve: images per second of processor time | 2 workers, 2 threads |" in done.stdout
    assert (tmp_path / "scaling.svg").read_text().startswith("<svg")


def test_cores_on_paper_are_those_that_the_cheapest_variant_needs() -> None:
    found = {
        (Variant(engine, processes, 1), Traffic(*load)): point(engine, processes, load, per_core)
        for engine in ("embedded", "torchserve")
        for load in ((64, 1), (4, 1024))
        for processes, per_core in ((1, 10_000), (2, 12_000))
    }
    table = on_paper(found, {1: (1000, 500), 1024: (803_000, 41_000)})
    assert "| embedded, bodies of 1 | 12,000 | 84 | 1,000,000 | 8.0 | 4.0 |" in table
    assert f"{GOAL / 1024:,.0f}" in table
    assert plot(found).startswith("<svg")


def point(engine: str, processes: int, load: tuple[int, int], per_core: float) -> Point:
    """A point of which only the cost matters."""
    return Point(engine, processes, 1, *load, 5000, 4000, 6000, 1.0, 2.0, per_core)
