"""What a data set is once it is read."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.task import FASHION_MNIST, Task


class Split(NamedTuple):
    """Images, uint8 [n, channels, height, width], and their labels [n], uint8, or uint16 of many classes."""

    images: NDArray[np.uint8]
    labels: NDArray[Any]


class Dataset(NamedTuple):
    """The images to train on and those to test on, and the task that they make."""

    train: Split
    test: Split
    task: Task = FASHION_MNIST
    origin: Mapping[str, Any] = MappingProxyType({})
    """What the model card says besides of where the data come from."""
