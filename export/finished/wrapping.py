"""What stands around a finished model: uint8 images in, normalised as it wants them; probabilities out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import UsageError
from fashion_mnist.task import Geometry


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """Raises UsageError where the values do not fit the images."""

    geometry: Geometry
    classes: int
    mean: tuple[float, ...]
    """Of each channel, for pixels from 0 to 1; it is subtracted."""
    std: tuple[float, ...]
    """Of each channel; the difference is divided by it."""
    output: str | None = None
    """What the model gives, "logits" or "probabilities"; None: found out by `is_distribution`."""

    def __post_init__(self) -> None:
        channels = self.geometry.channels
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise UsageError(
                    f"--{name} has {len(values)} numbers and images have {channels} channels: give {channels}"
                )
            if not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
                raise UsageError(f"--{name} is {', '.join(map(str, values))}: give finite numbers, of std above 0")

    @property
    def scale(self) -> NDArray[np.float32]:
        """What a pixel, 0 to 255, is multiplied by: float32 [1, channels, 1, 1]."""
        return _by_channel(1 / (255 * np.array(self.std)))

    @property
    def shift(self) -> NDArray[np.float32]:
        """What is then added: float32 [1, channels, 1, 1]."""
        return _by_channel(-np.array(self.mean) / np.array(self.std))

    def normalise(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images, uint8 [n, c, h, w], as the model wants them, step by step: float32 of the same shape."""
        mean, std = _by_channel(np.array(self.mean)), _by_channel(np.array(self.std))
        normalised: NDArray[np.float32] = (images.astype(np.float32) / np.float32(255) - mean) / std
        return normalised


def _by_channel(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32).reshape(1, -1, 1, 1)


def is_distribution(outputs: NDArray[np.float32]) -> bool:
    """Whether each row, float32 [n, classes], is probabilities: none negative, and their sum is 1."""
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, float32 [n, classes], in double precision on the way."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float32] = (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
