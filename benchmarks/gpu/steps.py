"""Steps that stand alone: each runs in a process of its own, so that none hides another, and all end in one table."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit
from serving import processes

PASSED: Final = "passed"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
NOT_RUN: Final = "not run"

GRACE_S: Final = 2.0
PATIENCE: Final = 5
SAID_CHARACTERS: Final = 1500
ROOT: Final = Path(__file__).resolve().parents[2]

Found = dict[str, Any]
"""What a step found, by what it is; a list of mappings is a table."""

_T = TypeVar("_T")


class Skipped(Exception):
    """What a step needs is not here; its text says what."""


@dataclass(frozen=True)
class Run:
    """What a step is told: where to compute, "cuda", or "cpu" in a dry run."""

    device: str

    @property
    def dry(self) -> bool:
        """Whether this is a dry run: every line, little of everything, on the CPU."""
        return self.device == "cpu"

    def size(self, real: _T, dry: _T) -> _T:
        """How much of something."""
        return dry if self.dry else real


@dataclass(frozen=True)
class Step:
    """One step: its name, its function as `module:function`, which takes a Run, and the seconds that it may take."""

    name: str
    target: str
    deadline_s: float


@dataclass(frozen=True)
class Outcome:
    """What came of a step."""

    step: str
    result: str
    seconds: float = 0.0
    found: Found = field(default_factory=dict)
    reason: str = ""
    """Why it failed or was skipped."""


def run_all(
    steps: Sequence[Step], run: Run, output: Path, *, budget_s: float, say: Callable[[str], None]
) -> list[Outcome]:
    """Run steps one after the other and say what each found; after each, `output` holds all of it as JSON.

    A step that fails, hangs or takes its process along ends itself alone. What does not begin within `budget_s` seconds
    is not run.
    """
    begun, outcomes = time.monotonic(), list[Outcome]()
    for step in steps:
        left = begun + budget_s - time.monotonic()
        outcome = (
            Outcome(step.name, NOT_RUN, reason="the time was used up before") if left <= 0 else _run(step, run, left)
        )
        outcomes.append(outcome)
        say(described(outcome))
        atomic.write_text(output, json.dumps(document(outcomes, run), indent=2) + "\n")
    say(summary(outcomes))
    return outcomes


def document(outcomes: Sequence[Outcome], run: Run) -> dict[str, Any]:
    """What the JSON holds."""
    return {
        "dry_run": run.dry,
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "python": platform.python_version(),
        "steps": [asdict(outcome) for outcome in outcomes],
    }


def described(outcome: Outcome) -> str:
    """An outcome as text: a line, what was found, and the tables in it."""
    lines = [f"{outcome.result:8} {outcome.step} ({outcome.seconds:.1f} s)"]
    lines += [f"    {line}" for line in outcome.reason.splitlines()]
    for name, value in outcome.found.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [f"    {name}:", *(f"      {line}" for line in _aligned(value))]
        else:
            lines.append(f"    {name}: {value}")
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    """All outcomes as a table, without what they found."""
    rows = [
        {
            "step": each.step,
            "result": each.result,
            "seconds": f"{each.seconds:.1f}",
            "why": each.reason.strip().rpartition("\n")[2],
        }
        for each in outcomes
    ]
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _run(step: Step, run: Run, left_s: float) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fm-gpu-") as name:
        result, said = Path(name) / "result.json", Path(name) / "said"
        command = [sys.executable, "-m", "benchmarks.gpu.step_process", step.target, run.device, str(result)]
        # Deadlines are a free machine's with a GPU; a dry run has all the time that a busy one takes.
        deadline_s = min(step.deadline_s * run.size(1, PATIENCE), left_s)
        # Threads of a dry run would only wait for each other where other work has the cores.
        environment = {"TMPDIR": name} | ({"OMP_NUM_THREADS": "1"} if run.dry else {})
        with said.open("wb") as output:
            process = processes.start(command, os.environ | environment, ROOT, output)
            try:
                process.wait(deadline_s)
                ending = f"its process ended with {process.returncode} and left no result"
            except subprocess.TimeoutExpired:
                ending = f"it was ended after {deadline_s:.0f} s"
            finally:
                processes.stop(process, GRACE_S)
        seconds = round(time.monotonic() - started, 1)
        if result.is_file():
            return Outcome(step.name, seconds=seconds, **json.loads(result.read_text()))
        words = said.read_text(errors="replace")[-SAID_CHARACTERS:]
        return Outcome(step.name, FAILED, seconds, reason=f"{words}\n{ending}".strip())
