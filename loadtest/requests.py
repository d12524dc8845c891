"""Requests that are ready to be sent, with the labels that the released model gives to their images."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fashion_mnist.data import dataset
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.engines import Engine, open_engine
from fashion_mnist.model_store import model_store_path, model_task
from fashion_mnist.settings import Settings
from fashion_mnist.task import Task
from loadtest.kinds import SINGLE, Kind, Pixels, Sent

IMAGES: Final = 2048
"""Test images that are sent, over and over."""

REQUESTS: Final = 256
"""Different requests of a kind, as far as they hold no more than IMAGES together."""


@dataclass(frozen=True)
class Request:
    """One request, and the labels of its images."""

    kind: Kind
    sent: Sent
    labels: list[str]


def load() -> tuple[Pixels, Engine, Task]:
    """The test images, uint8 [n, channels, height, width], the released model and its task.

    Raises DatasetError, ModelError where they are not there.
    """
    settings = Settings.from_environment()
    store = model_store_path(settings)
    return dataset.load(settings.data).test.images, open_engine(store, "onnx", "cpu"), model_task(store)


def prepare(kinds: Sequence[Kind], requests: int | None = REQUESTS) -> list[Request]:
    """So many requests of each kind, or, where that is None, as many as hold all test images.

    Raises DatasetError, ModelError where test images or the model are not there.
    """
    images, engine, task = load()
    limits = Limits.from_settings(Settings.from_environment())
    found = []
    for kind in (dataclasses.replace(kind, task=task) for kind in kinds):
        count = -(-len(images) // kind.images) if requests is None else min(requests, max(1, IMAGES // kind.images))
        for number in range(count):
            pixels = images[np.arange(number * kind.images, (number + 1) * kind.images) % len(images)]
            sent = kind.write(pixels)
            if kind.name in SINGLE:
                # Some kinds of files do not keep every pixel: what is classified is what is in the file.
                pixels = decode(sent.body, "", limits, task).pixels
            labels = [task.classes[index] for index in engine.predict(pixels).argmax(axis=1)]
            found.append(Request(kind, sent, labels))
    return found
