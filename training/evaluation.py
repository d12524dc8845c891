"""Evaluation of any of the three forms that a model has: weights, TorchScript, ONNX."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist.data.dataset import Split
from fashion_mnist.engines import load_file
from fashion_mnist.errors import ModelError
from fashion_mnist.evaluation import evaluation
from fashion_mnist.network import load_weights
from training.loop import predict
from training.runs import choose_device

_TORCHSCRIPT_ENTRY = b"code/"


def evaluate_file(path: Path, split: Split, *, split_name: str, device: str = "auto") -> dict[str, Any]:
    """The figures of `fashion_mnist.evaluation.evaluation` for a model file. Raises ModelError."""
    return evaluation(open_file(path, device)(split.images), split.labels) | {"split": split_name}


def open_file(path: Path, device: str = "auto") -> Callable[[np.ndarray], np.ndarray]:
    """What gives probabilities, float32 [n, 10], for uint8 [n, 28, 28], from a model file. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist: name a weights.pt, a TorchScript .pt or an .onnx file")
    # TorchScript and saved weights are both zip files named .pt; only TorchScript has code in it.
    if path.suffix == ".onnx" or _TORCHSCRIPT_ENTRY in path.read_bytes():
        return load_file(path, device, threads=2).predict
    return functools.partial(predict, load_weights(path).to(choose_device(device)))
