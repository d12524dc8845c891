"""What engines do, from host memory and back, and what the card does with images that it has already."""

import os
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnxruntime

from benchmarks.gpu import host
from benchmarks.gpu.engines import LARGEST_BATCH, Eager, open_onnx, open_session, open_torchscript
from benchmarks.gpu.steps import Found, Run
from fashion_mnist.classes import CLASSES, GEOMETRY
from fashion_mnist.engines import MODEL_FILES, Engine, open_engine

BATCHES: Final = (1, 32, 512, 4096)
RESIDENT: Final = (4096, 65536)
WARM_UP_CALLS: Final = 5


def rates(run: Run) -> Found:
    """Images a second and latencies by engine and batch size, host memory to host memory; beside the CPU's."""
    store = host.model_store()
    cores = os.cpu_count() or 1
    engines: dict[str, Engine] = {
        f"ONNX, {run.device}": open_onnx(run),
        f"ONNX, {run.device}, batches up to {LARGEST_BATCH}": open_onnx(run, max_gpu_batch=LARGEST_BATCH),
        f"TorchScript, {run.device}": open_torchscript(run),
        f"eager, {run.device}": Eager(run),
        "ONNX, CPU, 1 thread": open_engine(store, "onnx", "cpu"),
        f"ONNX, CPU, {cores} threads": open_engine(store, "onnx", "cpu", threads=cores),
    }
    rows: list[dict[str, Any]] = []
    for batch in run.size(BATCHES, BATCHES[:2]):
        images = noise(batch)
        for name, engine in engines.items():
            found = measure(lambda: engine.predict(images), batch, run.size(0.3, 0.02))  # noqa: B023 - called at once
            rows.append({"engine": name, "batch": batch, **found})
    return {"figures": rows}


def device_memory(run: Run) -> Found:
    """Images a second from device memory to device memory: what everything else is compared with."""
    rows = []
    for batch in run.size(RESIDENT, (64,)):
        for name, graphs in (("ONNX Runtime", False), ("ONNX Runtime, CUDA graph", True)):
            call = Resident(run, batch, graphs=graphs)
            rows.append({"engine": name, "batch": batch, **measure(call, batch, run.size(0.6, 0.02))})
    best = max(row["images/s"] for row in rows if row["batch"] == rows[0]["batch"])
    return {"batch": rows[0]["batch"], "images/s": best, "figures": rows}


class Resident:
    """A call that computes one batch and waits for it; images and probabilities stay on the device."""

    def __init__(self, run: Run, batch: int, *, graphs: bool) -> None:
        path = host.model_store() / MODEL_FILES["onnx"]
        self._session = open_session(run, path, use_tf32="0", enable_cuda_graph="1" if graphs else "0")
        self._options = onnxruntime.RunOptions()
        self._binding = self._session.io_binding()
        self._images = onnxruntime.OrtValue.ortvalue_from_numpy(noise(batch), run.device, 0)
        self._binding.bind_ortvalue_input("images", self._images)
        shape = (batch, len(CLASSES))
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, run.device, 0)
        self._binding.bind_ortvalue_output("probabilities", self._output)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)


def noise(batch: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Images, uint8 [batch, 1, 28, 28]: what is in them takes no more and no less time."""
    generator = np.random.default_rng(seed=0)
    return generator.integers(0, 256, (batch, *GEOMETRY), dtype=np.uint8)


def measure(
    call: Callable[[], object], images: int, seconds: float, settle: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Images a second of calls in a row, and the median and 99th percentile of one that is waited for.

    `settle` waits until the device has done what it was given.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    settle()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds / 2:
        call()
        calls += 1
    settle()
    rate = calls * images / (time.perf_counter() - started)
    taken: list[float] = []
    started = time.perf_counter()
    while (before := time.perf_counter()) - started < seconds / 2:
        call()
        settle()
        taken.append(time.perf_counter() - before)
    p50, p99 = np.percentile(taken, [50, 99]) * 1e6
    return {"images/s": round(rate), "p50 us": round(float(p50), 1), "p99 us": round(float(p99), 1)}
