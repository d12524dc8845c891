"""`make test-gpu` and `make bench-gpu`.

    python -m benchmarks.gpu test|bench [--dry-run] [--only STEP] [--budget-s SECONDS] [--output FILE]

The exit status is 0 where no step failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.gpu.steps import FAILED, NOT_RUN, PASSED, ROOT, Outcome, Run, Step, run_all
from fashion_mnist.engines import nvidia
from fashion_mnist.errors import DeviceUnavailable

BUDGETS_S: Final = {"test": 110.0, "bench": 130.0}
"""Both together take four minutes at most, wherever a GPU is borrowed by the minute."""

DRY_RUN_S: Final = 600.0

STEPS: Final = {
    "test": [
        Step("machine", "benchmarks.gpu.host:machine", 30),
        Step("onnx", "benchmarks.gpu.engines:onnx", 60),
        Step("onnx-profile", "benchmarks.gpu.engines:onnx_profile", 30),
        Step("onnx-graphs", "benchmarks.gpu.engines:onnx_graphs", 60),
        Step("torch", "benchmarks.gpu.engines:torch_engines", 60),
        Step("handler", "benchmarks.gpu.handler:handler", 60),
        Step("training", "benchmarks.gpu.training:training", 45),
        Step("embedded", "benchmarks.gpu.serving:embedded", 60),
        Step("torchserve", "benchmarks.gpu.serving:torchserve", 75),
        Step("hidden-gpu", "benchmarks.gpu.failures:hidden_gpu", 60),
        Step("full-gpu", "benchmarks.gpu.failures:full_gpu", 60),
        Step("busy-gpu", "benchmarks.gpu.failures:busy_gpu", 60),
    ],
    # What the goals are of comes first: a card that is slower than thought leaves the rest out.
    "bench": [
        Step("machine", "benchmarks.gpu.host:machine", 30),
        Step("device-memory", "benchmarks.gpu.rates:device_memory", 30),
        Step("serving-embedded", "benchmarks.gpu.serving:embedded_figures", 60),
        Step("rates", "benchmarks.gpu.rates:rates", 45),
        Step("graphs", "benchmarks.gpu.streams:graphs", 40),
        Step("profile", "benchmarks.gpu.profiles:profile", 40),
        Step("streams", "benchmarks.gpu.streams:streams", 30),
        Step("precision", "benchmarks.gpu.precision:precision", 40),
        Step("many-seeds", "benchmarks.gpu.training:many_seeds", 60),
        Step("epochs", "benchmarks.gpu.training:epochs", 45),
        Step("serving-torchserve", "benchmarks.gpu.serving:torchserve_figures", 60),
        Step("tensorrt", "benchmarks.gpu.precision:tensorrt", 45),
    ],
}

LONE_P50_MS: Final = 1.0
PACKED_SHARE: Final = 0.5


def main() -> None:
    """Run one of the two scripts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What this project does on a GPU.")
    parser.add_argument("script", choices=STEPS)
    parser.add_argument("--dry-run", action="store_true", help="every step, small, on the CPU")
    parser.add_argument("--only", action="append", help="this step alone; repeatable")
    parser.add_argument("--budget-s", type=float, help="seconds for all steps together")
    parser.add_argument("--output", type=Path, help="the JSON file; default benchmarks/results/gpu-SCRIPT.json")
    chosen = parser.parse_args()
    steps = STEPS[chosen.script]
    if unknown := set(chosen.only or ()) - {step.name for step in steps}:
        parser.error(f"no step {', '.join(sorted(unknown))}: there are {', '.join(step.name for step in steps)}")
    steps = [step for step in steps if not chosen.only or step.name in chosen.only]
    run = Run("cpu" if chosen.dry_run else "cuda")
    if not run.dry:
        try:
            nvidia.check_gpu(0)
        except DeviceUnavailable as error:
            sys.exit(f"error: {error.message}; `--dry-run` goes through every step on the CPU")
    name = f"gpu-{chosen.script}{'-dry-run' if run.dry else ''}.json"
    output = chosen.output or ROOT / "benchmarks" / "results" / name
    budget_s = DRY_RUN_S if run.dry else chosen.budget_s or BUDGETS_S[chosen.script]
    outcomes = run_all(steps, run, output, budget_s=budget_s, say=lambda text: print(text, flush=True))
    if not run.dry:
        print("\n".join(goals(outcomes)))
    print(f"all of it: {output}")
    sys.exit(any(outcome.result in (FAILED, NOT_RUN) for outcome in outcomes))


def goals(outcomes: Sequence[Outcome]) -> list[str]:
    """What the two goals came to, where what they are of was measured."""
    found = {outcome.step: outcome.found for outcome in outcomes if outcome.result == PASSED}
    served, card = found.get("serving-embedded"), found.get("device-memory")
    if not served or not card:
        return []
    lone, share = served["lone p50 ms"], served["packed images/s"] / card["images/s"]
    packed, batch = served["images a packed body"], card["batch"]
    return [
        f"goal: a lone request, embedded engine, p50 <= {LONE_P50_MS:g} ms: {lone:.3f}, "
        + _reached(lone <= LONE_P50_MS),
        f"goal: bodies of {packed:,}, embedded engine, >= {PACKED_SHARE:.0%} of the card's rate from device memory in "
        f"batches of {batch:,}: {share:.1%}, {_reached(share >= PACKED_SHARE)}",
    ]


def _reached(reached: bool) -> str:
    return "reached" if reached else "missed"


if __name__ == "__main__":
    main()
