"""Fewer bits, and NVIDIA's own compiler: TF32, FP16 and TensorRT, by ONNX Runtime."""

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.gpu import host
from benchmarks.gpu.engines import LARGEST_BATCH, open_session
from benchmarks.gpu.rates import measure, noise
from benchmarks.gpu.steps import Found, Run, Skipped
from fashion_mnist.engines import MODEL_FILES, load_file
from fashion_mnist.engines.fixed_batches import FixedBatches
from fashion_mnist.engines.onnx import load_cuda

TENSORRT: Final = "libnvinfer.so.10"


def precision(run: Run) -> Found:
    """TF32 and half precision: images a second, and how far the answers are from those in single precision."""
    path = host.model_store() / MODEL_FILES["onnx"]
    test = host.images(run).images
    expected = load_file(path, "cpu").predict(test)
    batch = run.size(LARGEST_BATCH, 64)
    images = noise(batch)
    with tempfile.TemporaryDirectory() as folder:
        half = half_precision(path, Path(folder) / "half.onnx")
        predicts = {
            "ONNX, FP32": session_predict(run, path, batch, use_tf32="0"),
            "ONNX, TF32": session_predict(run, path, batch, use_tf32="1"),
            "ONNX, FP16": session_predict(run, half, batch, use_tf32="0"),
        }
    rows = []
    for name, predict in predicts.items():
        found = np.concatenate([predict(test[start : start + batch]) for start in range(0, len(test), batch)])
        rows.append(
            {
                "engine": name,
                "batch": batch,
                **measure(lambda: predict(images), batch, run.size(0.5, 0.02)),  # noqa: B023 - called at once
                "other labels": int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
                "largest difference": f"{np.abs(found - expected).max():.1e}",
            }
        )
    return {"figures": rows}


def half_precision(path: Path, converted: Path) -> Path:
    """Convert a graph to FP16, but for its input and output; by ONNX Runtime's own tool."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    onnx.save(model, converted)
    return converted


def session_predict(
    run: Run, path: Path, batch: int, **options: str
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Bound batches of one size, by a session of its own, with other options of the CUDA provider."""
    session = open_session(run, path, **options)
    return FixedBatches(session, [batch], run.device, 0, graphs=False).run


def tensorrt(run: Run) -> Found:
    """ONNX Runtime's TensorRT provider, where TensorRT is installed."""
    try:
        ctypes.CDLL(TENSORRT)
    except OSError as error:
        raise Skipped(f"TensorRT is not installed ({error})") from None
    provider = "TensorrtExecutionProvider"
    if provider not in onnxruntime.get_available_providers() or run.dry:
        raise Skipped("this onnxruntime has no TensorRT provider, or this is a dry run")
    load_cuda()
    path, batch = host.model_store() / MODEL_FILES["onnx"], LARGEST_BATCH
    rows = []
    for half in (False, True):
        session = onnxruntime.InferenceSession(
            path, providers=[(provider, {"trt_fp16_enable": half}), "CUDAExecutionProvider"], enable_fallback=False
        )
        assert session.get_providers()[0] == provider, session.get_providers()
        predict = FixedBatches(session, [batch], "cuda", 0, graphs=False).run
        images = noise(batch)
        rows.append({"half precision": half, "batch": batch, **measure(lambda: predict(images), batch, 0.5)})  # noqa: B023
    return {"figures": rows}
