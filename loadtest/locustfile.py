"""Locust users that send real test images and check every label.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080

What the released model says of an image is computed once, before the test starts: an answer with another label counts
as a failure, however fast it came, and so does a run without a single answer.
"""

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from locust import FastHttpUser, constant, events, tag, task
from locust.env import Environment

from fashion_mnist import dataset
from fashion_mnist.classes import CLASSES
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings

PATH = "/predictions/fashion_mnist"
IMAGES = 1000
"""How many test images are sent, over and over."""
PACKED = 64
"""Images in one packed request."""
TIMEOUT_S = 10.0

_images: np.ndarray
_pngs: list[bytes]
_labels: list[str]


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Load the images and what the released model says of them; before any user starts, in each process."""
    global _images, _pngs, _labels
    settings = Settings.from_environment()
    _images = dataset.load(Path(settings.data) if settings.data else None).test.images[:IMAGES]
    _pngs = [cv2.imencode(".png", image)[1].tobytes() for image in _images]
    engine = open_engine(model_store_path(settings), "onnx", "cpu")
    _labels = [CLASSES[index] for index in engine.predict(_images).argmax(axis=1)]


@events.quitting.add_listener
def fail_without_answers(environment: Environment, **_: Any) -> None:
    """A run that got no answer has proved nothing."""
    if environment.stats.total.num_requests == 0:
        environment.process_exit_code = 1


class Shopper(FastHttpUser):
    """A client that sends one image after the other, and now and then many at once."""

    wait_time = constant(0)
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S

    @tag("png")
    @task(10)
    def png(self) -> None:
        """One PNG."""
        index = random.randrange(IMAGES)
        self._send("png", _pngs[index], "image/png", [index])

    @tag("raw")
    @task(10)
    def raw(self) -> None:
        """One image as raw bytes."""
        index = random.randrange(IMAGES)
        self._send("raw", _images[index].tobytes(), "application/octet-stream", [index])

    @tag("packed")
    @task(1)
    def packed(self) -> None:
        """Many images as raw bytes in one request."""
        start = random.randrange(IMAGES - PACKED)
        indices = list(range(start, start + PACKED))
        self._send(f"raw x {PACKED}", _images[start : start + PACKED].tobytes(), "application/octet-stream", indices)

    def _send(self, name: str, body: bytes, content_type: str, indices: list[int]) -> None:
        headers = {"Content-Type": content_type}
        with self.client.post(PATH, data=body, headers=headers, name=name, catch_response=True) as response:  # type: ignore[arg-type]
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {(response.text or '')[:100]}")
                return
            try:
                labels = [prediction["label"] for prediction in response.json()["predictions"]]
            except (ValueError, KeyError, TypeError):
                response.failure(f"no predictions in {(response.text or '')[:100]}")
                return
            expected = [_labels[index] for index in indices]
            if labels != expected:
                response.failure(f"wrong label: {labels[:3]} instead of {expected[:3]}")
