"""The samples: one real test image of each class, that the exported model names rightly."""

from pathlib import Path

import numpy as np

from fashion_mnist.encoding import encode_image
from fashion_mnist.errors import ExportError
from fashion_mnist.task import FASHION_MNIST, SAMPLES, HealthCheck, Task, sample_file


def write(folder: Path, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, task: Task) -> list[str]:
    """Write `folder`/samples/<class>.png, 8 bits a channel: of each class, the first image whose answer is right.

    Takes uint8 [n, c, h, w], labels [n] and the model's float32 [n, classes]; returns the files' names relative to
    `folder`. A class that the model never names rightly has none, since own data may have few test images of it.
    Raises ExportError where that is every class, and for Fashion-MNIST, with 1000 images of each, where it is any.
    """
    (folder / SAMPLES).mkdir()
    right = probabilities.argmax(axis=1) == labels
    names = []
    for index, label in enumerate(task.classes):
        places = np.flatnonzero(right & (labels == index))
        name = sample_file(label)
        if not places.size and task == FASHION_MNIST:
            raise ExportError(f"the model names no {label} of the test set rightly: train it further, then export")
        if places.size and name not in names:
            (folder / name).write_bytes(encode_image(images[places[0]]))
            names.append(name)
    if not names:
        raise ExportError("the model names no image of the test set rightly: train it further, then export")
    return names


def health_check(task: Task, names: list[str]) -> HealthCheck:
    """The task's own health-check image where it is among the samples `names`, else one of these."""
    if task.health_check.image in names:
        return task.health_check
    return next(HealthCheck(name, label) for label in task.classes if (name := sample_file(label)) in names)
