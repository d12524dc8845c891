"""The samples: one real test image of each class that the exported model names rightly."""

from pathlib import Path

import numpy as np

from fashion_mnist.encoding import encode_image
from fashion_mnist.errors import ExportError
from fashion_mnist.model_store import sample_name
from fashion_mnist.task import Task


def write(folder: Path, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, task: Task) -> list[str]:
    """Write `folder`/samples/<class>.png, 8 bits a channel: of each class, the first image whose answer is right.

    Takes uint8 [n, c, h, w], labels [n] and the model's float32 [n, classes]; returns the files' names relative to
    `folder`. Raises ExportError for a class that the model never names rightly: such a model is not fit to serve.
    """
    right = probabilities.argmax(axis=1) == labels
    names = []
    for index, label in enumerate(task.classes):
        places = np.flatnonzero(right & (labels == index))
        if not places.size:
            raise ExportError(f"the model names no {label} of the test set rightly; train it further, then export")
        names.append(sample_name(label))
        (folder / names[-1]).parent.mkdir(exist_ok=True)
        (folder / names[-1]).write_bytes(encode_image(images[places[0]]))
    return names
