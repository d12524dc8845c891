"""Formats whose libraries must not run in a serving process: each file is decoded in a process of its own.

An AVIF of a kilobyte whose header says 28 x 28 may have 16,384 x 16,384 pixels, which only decoding reveals; libtiff
prints messages about damaged files to stderr. The process has limits of memory and time, its stderr is
discarded, and it ends after one image.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

import fashion_mnist
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.decoding.picture import Picture
from fashion_mnist.errors import CorruptImage, TooManyPixels, UnsupportedMediaType
from fashion_mnist.task import Task

MEMORY_BYTES: Final = 768 * 2**20
CPU_S: Final = 10
_DEADLINE_S: Final = 30
_ERRORS: Final = {error.code: error for error in (CorruptImage, TooManyPixels, UnsupportedMediaType)}


def read_picture(content: bytes, name: str, pixels: int, limits: Limits, task: Task) -> Picture:
    """An image file of the format `name` as a picture; `pixels` is the rest of its request's budget.

    Raises CorruptImage, TooManyPixels.
    """
    work = json.dumps(
        {
            "format": name,
            "memory": MEMORY_BYTES,
            "seconds": CPU_S,
            "limits": limits._replace(max_pixels=pixels),
            "task": task.to_card(),
        }
    )
    # -P: do not import modules from the working directory.
    command = [sys.executable, "-P", "-m", "fashion_mnist.decoding", work]
    root = str(Path(fashion_mnist.__path__[0]).resolve().parent)
    environment = {**os.environ, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, input=content, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            timeout=_DEADLINE_S, check=True,
        )  # fmt: skip
        line, _, data = done.stdout.partition(b"\n")
        answer = json.loads(line)
    except (subprocess.SubprocessError, ValueError):
        raise CorruptImage(f"the {name} cannot be decoded within the limits: save it as a JPEG or PNG") from None
    if "error" in answer:
        raise _ERRORS[answer["error"]](answer["message"])
    shape = tuple(answer["shape"])
    size = int(np.prod(shape))
    array = np.frombuffer(data, np.uint8)
    alpha = array[size:].reshape(shape[:2]) if len(array) > size else None
    return Picture(array[:size].reshape(shape), alpha, answer["width"], answer["height"], answer["notes"])
