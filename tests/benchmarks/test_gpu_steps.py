"""The steps of test-gpu and bench-gpu stand alone, and what they found is told whole, whatever one of them does."""

import importlib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as scripts
from benchmarks.gpu import paper
from benchmarks.gpu.load import closed_loop
from benchmarks.gpu.steps import FAILED, NOT_RUN, PASSED, PATIENCE, SKIPPED, Outcome, Run, Step, run_all
from benchmarks.load import RunFailed
from fashion_mnist.classes import CLASSES
from fashion_mnist.task import FASHION_MNIST
from loadtest.kinds import Sent, find_kind, native
from loadtest.requests import Request, prepare
from tests.support.command import ServeCommand

ROOT = Path(__file__).parents[2]

NATIVE = native(FASHION_MNIST)


def step(name: str, deadline_s: float = 60) -> Step:
    return Step(name, f"tests.benchmarks.gpu_steps:{name}", deadline_s)


def run(output: Path, *steps: Step, budget_s: float = 120) -> tuple[dict[str, Outcome], str]:
    """The outcomes by step, and what was said."""
    said: list[str] = []
    outcomes = run_all(steps, Run("cpu"), output, budget_s=budget_s, say=said.append)
    return {outcome.step: outcome for outcome in outcomes}, "\n".join(said)


def test_a_step_that_fails_hides_none_after_it(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    steps = [
        step("raises"),
        step("is_killed"),
        step("hangs", 2 / PATIENCE),
        step("lacks"),
        step("works"),
        step("is_missing"),
    ]
    outcomes, said = run(output, *steps)
    assert {name: outcome.result for name, outcome in outcomes.items()} == {
        "raises": FAILED,
        "is_killed": FAILED,
        "hangs": FAILED,
        "lacks": SKIPPED,
        "works": PASSED,
        "is_missing": FAILED,
    }
    assert "ZeroDivisionError: no images" in outcomes["raises"].reason
    assert re.search("last words\n+.*ended with -9", outcomes["is_killed"].reason)
    assert "ended after 2 s" in outcomes["hangs"].reason
    assert outcomes["lacks"].reason == "there is no TensorRT"
    assert outcomes["works"].found == {"device": "cpu", "sizes": [{"size": "dry", "images/s": 7}]}
    assert re.search(r"size +images/s\n +dry +7", said)
    document = json.loads(output.read_text())
    assert document["dry_run"] is True
    assert [each["step"] for each in document["steps"]] == [each.name for each in steps]
    assert document["steps"][4]["found"] == outcomes["works"].found


def test_what_was_found_is_kept_step_by_step_and_whole(tmp_path: Path) -> None:
    """Whoever reads the file at any moment, or ends the script, has all steps that ended."""
    output = tmp_path / "found.json"
    counts: list[int] = []

    def look(text: str) -> None:
        counts.append(len(json.loads(output.read_text())["steps"]) if output.exists() else 0)

    run_all([step("works"), step("raises"), step("works")], Run("cpu"), output, budget_s=120, say=look)
    assert counts == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_does_not_begin_in_time_is_told_as_not_run(tmp_path: Path) -> None:
    outcomes, said = run(tmp_path / "found.json", step("hangs"), step("works"), budget_s=1)
    assert outcomes["hangs"].result == FAILED
    assert outcomes["works"].result == NOT_RUN
    assert "not run" in said


@pytest.mark.parametrize("script", scripts.STEPS)
def test_every_step_is_a_function(script: str) -> None:
    steps = scripts.STEPS[script]
    assert len({each.name for each in steps}) == len(steps)
    for each in steps:
        module, _, function = each.target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(("script", "name"), [("test", "onnx"), ("test", "onnx-graphs"), ("bench", "device-memory")])
def test_a_dry_run_goes_through_a_step(tmp_path: Path, script: str, name: str) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.gpu", script, "--dry-run", "--only", name, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    (outcome,) = json.loads(output.read_text())["steps"]
    assert (outcome["step"], outcome["result"]) == (name, PASSED)
    assert outcome["found"]
    assert f"passed   {name}" in done.stdout


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_names_the_dry_run() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "test"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert re.search("error: there is no NVIDIA driver.*--dry-run", done.stderr)


def test_an_unknown_step_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "bench", "--only", "onnx"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "device-memory" in done.stderr


@pytest.mark.parametrize(("packed", "lone", "words"), [(6e6, 0.4, ["reached"] * 2), (1e6, 1.4, ["missed"] * 2)])
def test_goals_are_told(packed: float, lone: float, words: list[str]) -> None:
    served = {"lone p50 ms": lone, "packed images/s": packed, "images a packed body": 4096}
    outcomes = [
        Outcome("serving-embedded", PASSED, found=served),
        Outcome("device-memory", PASSED, found={"images/s": 1e7, "batch": 4096}),
    ]
    assert [line.rpartition(" ")[2] for line in scripts.goals(outcomes)] == words
    assert scripts.goals(outcomes[:1]) == []


def test_a_closed_loop_counts_images_and_checks_labels(embedded: ServeCommand) -> None:
    requests = prepare([find_kind("binary x 16")], 4)
    url = embedded.url
    found = closed_loop(url, requests, connections=2, seconds=0.3)
    assert found.images_per_s > 0
    assert 0 < found.p50_ms <= found.p99_ms
    wrong = [Request(each.kind, each.sent, [CLASSES[0]] * len(each.labels)) for each in requests]
    with pytest.raises(RunFailed, match="binary x 16: labels are not the model's"):
        closed_loop(url, wrong, connections=2, seconds=5)
    refused = Request(requests[0].kind, Sent(NATIVE, b"no image"), [])
    with pytest.raises(RunFailed, match="status 4"):
        closed_loop(url, [refused], connections=1, seconds=5)


def test_the_documentation_has_the_figures_on_paper() -> None:
    page = (ROOT / "docs" / "how-to" / "gpu.md").read_text()
    for table in paper.tables().split("\n\n"):
        assert table in page, "python -m benchmarks.gpu.paper prints it"


def test_the_network_on_paper_is_the_released_one() -> None:
    found = paper.layers()
    assert sum(layer.flops for layer in found) == 464_880
    assert len(found) == paper.KERNELS
    assert all(before.written == after.read for before, after in itertools.pairwise(found))
