"""A residual network of 3 x 3 convolutions: the teacher. It is never served."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashion_mnist.task import FASHION_MNIST

WIDTHS: Final = (24, 48, 96)
"""Filters of the three stages, whose maps are of the image's size, a half and a quarter of it."""


class ResidualNetwork(nn.Module):
    """Five convolutions, two of them with a bypass: float32 [n, channels, height, width] -> logits [n, classes].

    Its parts have the names of `fashion_mnist.network.Network`'s, so that one loop trains either.
    """

    activation_name = "relu"

    def __init__(
        self, channels: int = FASHION_MNIST.geometry.channels, classes: int = len(FASHION_MNIST.classes)
    ) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.arguments = {"channels": channels, "classes": classes}
        self.stem = _Convolution(channels, first)
        self.widen1 = _Convolution(first, second)
        self.refine1 = _Convolution(second, second)
        self.widen2 = _Convolution(second, third)
        self.refine2 = _Convolution(third, third)
        self.out = nn.Linear(2 * third, classes)
        # On a CPU a step takes four fifths of the time so.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of normalised images."""
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Each of the last maps' highest and mean value, float32 [n, out's in_features]."""
        maps = functional.max_pool2d(self.stem(images), 2)
        maps = self.widen1(maps)
        maps = functional.max_pool2d(maps + self.refine1(maps), 2)
        maps = self.widen2(maps)
        maps = maps + self.refine2(maps)
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of `features`."""
        logits: Tensor = self.out(features)
        return logits


class _Convolution(nn.Module):
    """3 x 3, batch normalisation, ReLU: maps keep their size."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.convolution(maps))
        return functional.relu(normalised)
