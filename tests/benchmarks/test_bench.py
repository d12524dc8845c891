"""The benchmark runs, checks every label and writes what it measured; what it measured is nobody's business here."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.load import Bodies, RunFailed
from fashion_mnist.data.splits import Dataset
from tests.support.command import COMMAND
from tests.support.torchserve import RunningServer

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt-get install wrk)")


def test_a_quick_run_gives_every_figure(tmp_path: Path) -> None:
    command = [COMMAND, "bench", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())
    kinds = {(row["server"], row["body"]) for row in results["single"]}
    assert {(name, kind) for name in ("gateway + TorchServe", "gateway, embedded") for kind in ("png", "raw")} <= kinds
    assert len(results["single"]) == 3 * len(kinds)
    assert all(row["per_second"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in results["single"])
    assert all(rate > 0 for rate in results["packed"].values())
    assert len(results["aims"]) > 10
    assert "| TorchServe as shipped | PNG | 64 |" in (tmp_path / "results.md").read_text()


def test_a_run_with_refused_requests_has_no_figures(torchserve: RunningServer, tmp_path: Path) -> None:
    bodies = Bodies.write(tmp_path / "bad", [b"no image"], "application/octet-stream")
    with pytest.raises(RunFailed, match="failed"):
        load.run(torchserve.url, bodies, connections=1, seconds=1)


def test_a_run_without_a_server_has_no_figures(tmp_path: Path) -> None:
    bodies = Bodies.write(tmp_path / "bodies", [b"no image"], "application/octet-stream")
    with pytest.raises(RunFailed):
        load.run("http://127.0.0.1:9/", bodies, connections=1, seconds=1)


def test_each_body_is_sent_in_turn(torchserve: RunningServer, tmp_path: Path, dataset: Dataset) -> None:
    images = [image.tobytes() for image in dataset.test.images[:5]]
    bodies = Bodies.write(tmp_path / "bodies", images, "application/octet-stream")
    found = load.run(torchserve.url, bodies, connections=1, seconds=1)
    assert found.requests > 5
