"""What the data set is: its ten classes and the geometry of its images."""

from typing import Final, NamedTuple

CLASSES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Class names, by index, as the data set's authors and torchvision spell them."""


class Geometry(NamedTuple):
    """The shape of one image: channels, height and width in pixels."""

    channels: int
    height: int
    width: int


GEOMETRY: Final = Geometry(channels=1, height=28, width=28)
"""Fashion-MNIST's geometry. Whatever follows from the data is derived from this and `CLASSES`."""

IMAGE_BYTES: Final = GEOMETRY.channels * GEOMETRY.height * GEOMETRY.width
"""Length of one raw image: one byte a pixel, row by row."""
