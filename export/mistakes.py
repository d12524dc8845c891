"""mistakes.json and its sprite: what the exported model answers to the test images, and some of these to look at."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.encoding import encode_image
from fashion_mnist.model_store import MISTAKES, MISTAKES_SPRITE
from fashion_mnist.task import Task

MOST_BYTES: Final = 150_000
"""Of the sprite."""

COLUMNS: Final = 24
_MOST_OF_A_CELL: Final = 12
"""Images of one cell of the confusion matrix, at most; fewer where the sprite would be too large."""


def write(
    folder: Path,
    version: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    task: Task,
) -> list[str]:
    """Write both files for the model's `probabilities`, float32 [n, classes], of test images, uint8 [n, c, h, w].

    Returns their names. Of each cell the images come first of whose answer the model is surest. Nothing is written
    where not even one image of each cell fits the sprite, as of many classes.
    """
    answered, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    for most in range(_MOST_OF_A_CELL, 0, -1):
        cells = [
            [order[(labels[order] == true) & (answered[order] == said)][:most] for said in range(len(task.classes))]
            for true in range(len(task.classes))
        ]
        chosen = np.concatenate([places for row in cells for places in row])
        sprite = _sprite(images[chosen])
        if len(sprite) <= MOST_BYTES:
            break
    else:
        return []
    tile = iter(range(len(chosen)))
    matrix = np.zeros((len(task.classes), len(task.classes)), int)
    np.add.at(matrix, (labels, answered), 1)
    _, height, width = task.geometry
    content: dict[str, Any] = {
        "model_version": version,
        "classes": list(task.classes),
        "images": len(images),
        "matrix": matrix.tolist(),
        "sprite": {"tile": {"width": width, "height": height}, "columns": COLUMNS, "tiles": len(chosen)},
        "cells": [[[next(tile) for _ in places] for places in row] for row in cells],
        "tiles": [
            {
                "image": int(place),
                "label": int(labels[place]),
                "answered": int(answered[place]),
                "probability": round(float(confidence[place]), 4),
            }
            for place in chosen
        ],
    }
    (folder / MISTAKES_SPRITE).write_bytes(sprite)
    (folder / MISTAKES).write_text(json.dumps(content) + "\n", encoding="utf-8")
    return [MISTAKES, MISTAKES_SPRITE]


def _sprite(images: NDArray[np.uint8]) -> bytes:
    """Images, uint8 [n, channels, h, w], beside and below each other, row by row, as a lossless WebP."""
    count, channels, height, width = images.shape
    rows = -(-count // COLUMNS)
    padded = np.zeros((rows * COLUMNS, channels, height, width), np.uint8)
    padded[:count] = images
    tiles = padded.reshape(rows, COLUMNS, channels, height, width).transpose(2, 0, 3, 1, 4)
    # Slower methods take ten seconds for five per cent.
    return encode_image(
        tiles.reshape(channels, rows * height, COLUMNS * width), "WEBP", lossless=True, quality=75, method=4
    )
