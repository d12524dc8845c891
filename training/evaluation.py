"""Evaluation of any of the three forms that a model has: weights, TorchScript, ONNX."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import load_file
from fashion_mnist.errors import ModelError, UsageError
from fashion_mnist.evaluation import evaluation
from fashion_mnist.network import NetworkClass, load_weights
from fashion_mnist.task import Task
from training.loop import predict
from training.runs import choose_device

_TORCHSCRIPT_ENTRY = b"code/"


def evaluate_file(
    path: Path, dataset: Dataset, *, split_name: str, device: str = "auto", network_class: NetworkClass | None = None
) -> dict[str, Any]:
    """The figures of `fashion_mnist.evaluation.evaluation` for a model file. Raises ModelError."""
    split = dataset.test if split_name == "test" else dataset.train
    predict = open_file(path, dataset.task, device, network_class)
    return evaluation(predict(split.images), split.labels, dataset.task.classes) | {"split": split_name}


def open_file(
    path: Path, task: Task, device: str = "auto", network_class: NetworkClass | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """What gives probabilities, float32 [n, classes], for uint8 [n, c, h, w], from a model file. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist: name a weights.pt, a TorchScript .pt or an .onnx file")
    # TorchScript and saved weights are both zip files named .pt; only TorchScript has code in it.
    if path.suffix == ".onnx" or _TORCHSCRIPT_ENTRY in path.read_bytes():
        return load_file(path, device, task=task, threads=2).predict
    classifier = load_weights(path, network_class)
    if (classifier.task.geometry, classifier.task.classes) != (task.geometry, task.classes):
        raise UsageError(
            f"{path} is of {classifier.task.title}, and the data are {task.title}: name its own with --data"
        )
    return functools.partial(predict, classifier.to(choose_device(device)))
