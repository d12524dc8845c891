"""How this network is usually served: TorchServe's own image classifier, with the transforms that training used.

After TorchServe's examples/image_classifier/mnist/mnist_handler.py. Packed into an archive by stock.py, and run by
TorchServe, not by us.
"""

from fashion_mnist.data.torchvision import import_torchvision

import_torchvision()

from torchvision import transforms  # noqa: E402
from ts.torch_handler.image_classifier import ImageClassifier  # noqa: E402

MEAN, STD = 0.2860, 0.3530
"""Fashion-MNIST's, as everybody types them in."""


class FashionMNISTClassifier(ImageClassifier):  # type: ignore[misc]
    """PNG in, the index of the class out."""

    image_processing = transforms.Compose(
        [transforms.Grayscale(), transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
    )

    def postprocess(self, data):  # type: ignore[no-untyped-def]
        """Logits, float32 [n, 10], as a list of class indices."""
        return data.argmax(1).tolist()
