"""The engines behind the gateway: TorchServe, a runtime in this process, or another server. Their answers are equal."""

from typing import Protocol

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.predictions import Probabilities


class Backend(Protocol):
    """An engine. All methods run on the gateway's event loop."""

    @property
    def max_batch(self) -> int:
        """The maximum number of images of a batch."""

    def wants(self, in_flight: int, waiting: int) -> bool:
        """Whether to send a batch now, given the numbers of batches in flight and of queued images."""

    async def predict(self, images: Pixels) -> Probabilities:
        """Probabilities, float32 [n, 10], of images, uint8 [n, 28, 28]. Raises Unavailable, also after a timeout."""

    async def close(self) -> None:
        """Release its resources."""
