"""How often a model is right: over all images and for each class."""

from typing import Any

import numpy as np

from fashion_mnist.classes import CLASSES


def evaluation(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy with its binomial standard error; precision, recall and F1 of each class; the confusion matrix.

    Takes float32 [n,10] and the true labels, uint8 [n]. Rows of the matrix are true classes, columns predicted ones.
    """
    predicted = probabilities.argmax(axis=1)
    count = len(CLASSES)
    confusion = np.bincount(labels.astype(np.int64) * count + predicted, minlength=count * count).reshape(count, count)
    right, true, told = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    accuracy = right.sum() / len(labels)
    return {
        "split": "test",
        "images": len(labels),
        "accuracy": round(float(accuracy), 6),
        "standard_error": round(float(np.sqrt(accuracy * (1 - accuracy) / len(labels))), 6),
        "classes": {
            name: {
                "images": int(true[index]),
                "precision": _ratio(right[index], told[index]),
                "recall": _ratio(right[index], true[index]),
                "f1": _ratio(2 * right[index], true[index] + told[index]),
            }
            for index, name in enumerate(CLASSES)
        },
        "confusion_matrix": confusion.tolist(),
    }


def _ratio(part: np.int64, whole: np.int64) -> float:
    return round(float(part / whole), 4) if whole else 0.0
