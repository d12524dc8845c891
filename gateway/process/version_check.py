"""Whether a version of the model does what its card says, asked as clients will ask it: through a gateway."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import numpy as np

from fashion_mnist.data import dataset
from fashion_mnist.data.splits import Split
from fashion_mnist.errors import DatasetError, VersionError
from fashion_mnist.predictions import OCTET_STREAM
from fashion_mnist.settings import Settings
from fashion_mnist.task import Task
from gateway.models.versions import Version
from gateway.process.control import NUMBERED
from serving import readiness

TOLERANCE: Final = 0.002
"""How far the accuracy may be from the card's. Both are of the same images: only a device's rounding lies between."""

PACK: Final = 256
"""Images of one request."""

TIMEOUT_S: Final = 20.0
_IDX_BYTES: Final = 20


def held_out(settings: Settings, *, without_data: bool) -> Split | None:
    """The images that versions are checked on, which no recipe trains on: the test images.

    None where nobody wants them. Raises VersionError where they are wanted and are not on this machine, or damaged.
    """
    if without_data:
        return None
    folder = Path(settings.data) if settings.data else dataset.find_installed()
    if folder is None:
        raise VersionError(
            "the data set is not on the server's machine, so nobody can check how often the version is right: "
            "`apt-get install dataset-fashion-mnist` or set FASHION_MNIST_DATA there; or load it with --without-data, "
            "after which only its health was checked"
        )
    try:
        return dataset.load_test(folder)
    except DatasetError as error:
        raise VersionError(error.message) from None


def check_health_image(private_socket: Path, version: Version, task: Task, health_image: bytes) -> None:
    """Raise VersionError where a version fails its health check."""
    try:
        readiness.check_health_image_at(private_socket, task, health_image, f"{NUMBERED}{version.number}")
    except readiness.NotReady as error:
        raise VersionError(f"version {version.name} does not answer rightly: {error}") from None


def measure(
    private_socket: Path, version: Version, held: Split, settings: Settings, go_on: Callable[[], None] = lambda: None
) -> float:
    """The share of held-out images that a version names rightly.

    `go_on` is called before each pack of them, and may raise. Raises VersionError where the version fails meanwhile.
    """
    size = max(1, min(PACK, settings.max_images, (settings.max_body_bytes - _IDX_BYTES) // held.images[0].nbytes))
    right = 0
    with httpx.Client(
        transport=httpx.HTTPTransport(verify=False, uds=str(private_socket)), timeout=TIMEOUT_S
    ) as client:
        for start in range(0, len(held.images), size):
            go_on()
            images, labels = held.images[start : start + size], held.labels[start : start + size]
            # With a header: bare pixels would be told by the first of them, which may look like a PNG's.
            content = b"".join(
                [
                    bytes((0, 0, 8, images.ndim)),
                    np.array(images.shape, ">u4").tobytes(),
                    np.ascontiguousarray(images).tobytes(),
                ]
            )
            try:
                response = client.post(
                    f"http://localhost{NUMBERED}{version.number}",
                    content=content,
                    headers={"accept": OCTET_STREAM, "x-prepare": "none"},
                )
            except httpx.TransportError as error:
                raise VersionError(
                    f"version {version.name} failed while it was checked ({type(error).__name__}): try again"
                ) from None
            if response.status_code != httpx.codes.OK:
                raise VersionError(f"version {version.name} failed while it was checked: {response.text[:200]}")
            probabilities = np.frombuffer(response.content, "<f4").reshape(len(images), -1)
            right += int((probabilities.argmax(axis=1) == labels).sum())
    return right / len(held.images)


def check_accuracy(version: str, found: float, promised: float | None) -> None:
    """Raise VersionError where an accuracy is not the card's."""
    if promised is None:
        raise VersionError(
            f"the card of version {version} has no evaluation.accuracy to compare with: export it anew, or load it "
            "with --without-data"
        )
    if not math.isclose(found, promised, abs_tol=TOLERANCE, rel_tol=0):
        raise VersionError(
            f"version {version} names {found:.2%} of the test images rightly and its card says {promised:.2%}: its "
            "files are not those that the card is of; export it anew"
        )
