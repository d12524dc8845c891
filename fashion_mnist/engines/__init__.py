"""Inference engines: uint8 [n, c, h, w] -> float32 [n, classes], with ONNX Runtime or TorchScript, on CPU or GPU."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_task
from fashion_mnist.settings import Settings
from fashion_mnist.system import checksums
from fashion_mnist.task import FASHION_MNIST, Task

# Since 1.29 ONNX Runtime sends telemetry from its import on, unless this is set.
# https://github.com/microsoft/onnxruntime/pull/27379
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

MODEL_FILES = {"onnx": "model.onnx", "torchscript": "model.torchscript.pt"}
"""Each runtime's file in the model store."""

GPU_BATCH = Settings.max_gpu_batch
"""The default maximum of images of one run on a GPU."""


class Engine(Protocol):
    """A loaded, warmed-up model. It is not thread-safe."""

    @property
    def name(self) -> str:
        """The runtime's name in the settings: "onnx" or "torchscript"."""

    @property
    def provider(self) -> str:
        """Where it computes, such as "CPUExecutionProvider" or "cuda:0"."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, classes], of images, uint8 [n, channels, height, width]."""


def graphs(model_store: Path, runtime: str) -> list[str]:
    """The names of a store's graphs: that of the runtime, and the others that SHA256SUMS lists. Raises ModelError."""
    listed = checksums.read(model_store)
    return [name for each, name in MODEL_FILES.items() if each == runtime or name in listed]


def open_engine(
    model_store: Path,
    runtime: str = "onnx",
    device: str = "auto",
    *,
    threads: int = 1,
    gpu_id: int | None = None,
    max_gpu_batch: int = GPU_BATCH,
    cuda_graphs: bool = False,
) -> Engine:
    """Load the model of a model store, after verifying its checksum in SHA256SUMS.

    `device` is "cpu", "cuda" or "auto", which uses the GPU if there is one, and otherwise logs why not.
    `max_gpu_batch` is the maximum of images of one run on a GPU; with `cuda_graphs` ONNX Runtime replays CUDA graphs.
    Raises ModelError if the model is missing or altered, and DeviceUnavailable if "cuda" is unavailable.
    """
    if runtime not in MODEL_FILES:
        raise UsageError(f"runtime is {runtime!r}: choose one of {', '.join(MODEL_FILES)}")
    path = model_store / MODEL_FILES[runtime]
    checksums.verify(path)
    task = model_task(model_store)
    return load_file(
        path, device, task=task, threads=threads, gpu_id=gpu_id, max_gpu_batch=max_gpu_batch, cuda_graphs=cuda_graphs
    )


def load_file(
    path: Path,
    device: str = "auto",
    *,
    task: Task = FASHION_MNIST,
    threads: int = 1,
    gpu_id: int | None = None,
    max_gpu_batch: int = GPU_BATCH,
    cuda_graphs: bool = False,
) -> Engine:
    """Load an exported file, .onnx or TorchScript .pt, which must be of `task`. Raises as `open_engine` does."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device is {device!r}: choose one of auto, cpu, cuda")
    # Import only the requested runtime: each takes a second and hundreds of MB.
    if path.suffix == ".onnx":
        from fashion_mnist.engines.onnx import OnnxEngine

        return OnnxEngine(
            path,
            device,
            task=task,
            threads=threads,
            gpu_id=gpu_id,
            max_gpu_batch=max_gpu_batch,
            cuda_graphs=cuda_graphs,
        )
    from fashion_mnist.engines.torchscript import TorchScriptEngine

    return TorchScriptEngine(path, device, task=task, threads=threads, gpu_id=gpu_id, max_gpu_batch=max_gpu_batch)
