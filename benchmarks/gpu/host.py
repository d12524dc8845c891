"""The machine: its card, its driver, the versions that everything ran with; and processes that fill its GPU."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnxruntime

from benchmarks.gpu.steps import Found, Run
from benchmarks.machine import machine as described
from fashion_mnist.data import dataset
from fashion_mnist.data.splits import Split
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings

QUERY: Final = (
    "name,driver_version,memory.total,pcie.link.gen.max,pcie.link.width.max,clocks.max.sm,clocks.max.memory,"
    "mig.mode.current"
)
PACKAGES: Final = ("torch", "onnxruntime-gpu", "numpy", "torchserve", "nvidia-cudnn-cu13", "nvidia-cuda-runtime")


def machine(run: Run) -> Found:
    """What it is, and what it runs."""
    found: Found = {"machine": described(run.device), "system": platform.platform(), "cores": os.cpu_count()}
    if not run.dry:
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        found |= dict(zip(QUERY.split(","), answer.splitlines()[0].split(", "), strict=True))
    found |= {name: _version(name) for name in PACKAGES}
    return found | {
        "onnxruntime": f"{onnxruntime.__version__} of {Path(onnxruntime.__file__).parent}",
        "built for CUDA": onnxruntime.cuda_version or "none",
        "providers": ", ".join(onnxruntime.get_available_providers()),
    }


def model_store() -> Path:
    """The released model's."""
    return model_store_path(Settings.from_environment())


def images(run: Run) -> Split:
    """The test set; of it 500 images in a dry run."""
    folder = Path(Settings.from_environment().data or dataset.find())
    test = dataset.load_test(folder)
    return test if not run.dry else Split(test.images[:500], test.labels[:500])


@contextlib.contextmanager
def filled_gpu(run: Run, *, spinning: bool = False) -> Iterator[None]:
    """Another process has all of the GPU's memory but some MB; or, `spinning`, has a GB of it and computes without end.

    In a dry run it is there, and holds 16 MB of the host's memory.
    """
    command = [sys.executable, "-c", _HOLDER, run.device, "spin" if spinning else "hold"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            said = process.stdout.readline()
            assert said == "holding\n", f"the process that is to fill the GPU ended: {said}"
            yield
        finally:
            process.stdin.close()  # upon which it ends
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


_HOLDER: Final = """
import select, sys, torch
device, what = sys.argv[1:]
held = []
if device == "cpu":
    held.append(torch.empty(16 * 2**20, dtype=torch.uint8))
elif what == "hold":
    size = 2**30
    while size >= 2 * 2**20:
        try:
            held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
side = 256 if device == "cpu" else 8192
matrix = torch.ones(side, side, device=device) if what == "spin" else None
print("holding", flush=True)
while not select.select([sys.stdin], [], [], 0 if what == "spin" else None)[0]:
    result = matrix @ matrix
    if device == "cuda":
        torch.cuda.synchronize()
"""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
