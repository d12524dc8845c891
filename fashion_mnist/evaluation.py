"""Evaluation of a model: accuracy, metrics of each class, and calibration of its probabilities."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fashion_mnist.task import FASHION_MNIST

BINS: Final = 15
"""Bins of confidence, of equal width, from 0 to 1."""


def evaluation(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str] = FASHION_MNIST.classes
) -> dict[str, Any]:
    """Accuracy with its binomial standard error; calibration; precision, recall and F1 of each class; confusion matrix.

    Takes float32 [n, classes] and the true labels, [n]. Rows of the matrix are true classes, columns predicted ones.
    """
    predicted = probabilities.argmax(axis=1)
    count = len(classes)
    confusion = np.bincount(labels.astype(np.int64) * count + predicted, minlength=count * count).reshape(count, count)
    correct, true, predictions = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    accuracy = correct.sum() / len(labels)
    return {
        "split": "test",
        "images": len(labels),
        "accuracy": round(float(accuracy), 6),
        "standard_error": round(float(np.sqrt(accuracy * (1 - accuracy) / len(labels))), 6),
        "calibration": calibration(probabilities, labels),
        "classes": {
            name: {
                "images": int(true[index]),
                "precision": _ratio(correct[index], predictions[index]),
                "recall": _ratio(correct[index], true[index]),
                "f1": _ratio(2 * correct[index], true[index] + predictions[index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion_matrix": confusion.tolist(),
    }


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The expected calibration error of the predicted class, its bins, and the mean negative log-likelihood.

    A bin has the number of images whose confidence is in it, their mean confidence and their accuracy. The error is the
    mean distance between these two, over all images. Source: Guo et al. 2017, arxiv.org/abs/1706.04599.
    """
    confidence, correct = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    # A confidence on an edge belongs to the bin below it.
    places = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    images = np.bincount(places, minlength=BINS)
    confidences, corrects = (np.bincount(places, weights=values, minlength=BINS) for values in (confidence, correct))
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "expected_error": round(float(np.abs(confidences - corrects).sum() / len(labels)), 6),
        "negative_log_likelihood": round(float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean()), 6),
        "bins": [
            {
                "up_to": round((index + 1) / BINS, 4),
                "images": int(images[index]),
                "confidence": _ratio(confidences[index], images[index]),
                "accuracy": _ratio(corrects[index], images[index]),
            }
            for index in range(BINS)
        ],
    }


def _ratio(part: np.int64 | np.float64, whole: np.int64) -> float:
    return round(float(part / whole), 4) if whole else 0.0
