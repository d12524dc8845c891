"""Fashion-MNIST's classes and geometry, for what serves no other task yet."""

from typing import Final

from fashion_mnist.task import FASHION_MNIST

CLASSES: Final = FASHION_MNIST.classes
GEOMETRY: Final = FASHION_MNIST.geometry
IMAGE_BYTES: Final = FASHION_MNIST.image_bytes
