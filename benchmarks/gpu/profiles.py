"""Where the time of a call goes: kernels, copies and launches, as PyTorch's profiler sees them in this process.

CUPTI, on which that profiler is built, sees ONNX Runtime's kernels too.
"""

import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity

from benchmarks.gpu.engines import Eager, open_onnx, open_torchscript
from benchmarks.gpu.rates import noise
from benchmarks.gpu.steps import Found, Run
from fashion_mnist.engines import Engine

BATCHES: Final = (1, 512, 4096)
CALLS: Final = 20
LAUNCHES: Final = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")


def profile(run: Run) -> Found:
    """By engine and batch size, of one call: its time, the kernels', the copies', and how many of each there are."""
    engines: dict[str, Engine] = {
        "ONNX": open_onnx(run, max_gpu_batch=BATCHES[-1]),
        "ONNX, CUDA graphs": open_onnx(run, max_gpu_batch=BATCHES[-1], cuda_graphs=True),
        "TorchScript": open_torchscript(run),
        "eager": Eager(run),
    }
    rows: list[dict[str, Any]] = []
    for name, engine in engines.items():
        for batch in run.size(BATCHES, BATCHES[:1]):
            images = noise(batch)
            rows.append({"engine": name, "batch": batch, **profiled(run, lambda: engine.predict(images))})  # noqa: B023
    if not run.dry:
        assert any(row["kernels"] for row in rows), "the profiler saw no kernel: has it CUPTI?"
    return {"one call": rows}


def profiled(run: Run, call: Callable[[], object]) -> dict[str, Any]:
    """Means of some calls, in microseconds."""
    for _ in range(CALLS):
        call()
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    wall_us = (time.perf_counter() - started) / CALLS * 1e6
    activities = [ProfilerActivity.CPU] if run.dry else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(CALLS):
                call()
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    counts: Counter[str] = Counter()
    durations: defaultdict[str, float] = defaultdict(float)
    for event in events:
        kind = "launches" if event.get("name") in LAUNCHES else event.get("cat", "")
        counts[kind] += 1
        durations[kind] += float(event.get("dur", 0))
    return {
        "wall us": round(wall_us, 1),
        "kernel us": round(durations["kernel"] / CALLS, 1),
        "copy us": round(durations["gpu_memcpy"] / CALLS, 1),
        "kernels": counts["kernel"] / CALLS,
        "launches": counts["launches"] / CALLS,
        "copies": counts["gpu_memcpy"] / CALLS,
    }
