"""What answers the gateway: TorchServe, or a runtime within this process. Answer for answer the same."""

from typing import Protocol

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.predictions import Probabilities


class Backend(Protocol):
    """An engine as the gateway sees it: all of its methods run on the gateway's event loop."""

    @property
    def max_batch(self) -> int:
        """The most images of one batch."""

    def wants(self, in_flight: int, waiting: int) -> bool:
        """Whether to send one more batch now, with so many batches in flight and so many images in line."""

    async def predict(self, images: Pixels) -> Probabilities:
        """Probabilities, float32 [n, 10], of images, uint8 [n, 28, 28]. Raises Unavailable, at the latest in time."""

    async def close(self) -> None:
        """Let go of what it holds."""
