"""The classifier with fewer and cheaper steps, as it is exported: the same answers, up to rounding.

Scaling, mean and standard deviation are linear in the pixels' powers, and so is conv1, which pads nothing: one
convolution does both. The temperature divides what the last layer gives. A gamma of one half is a square root, which
costs far less than other powers do. What is cheap besides differs between the two runtimes, which have a subclass each.
`python -m export.timing` prints what it gains.
"""

import copy
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashion_mnist.network import Classifier, mean_of_views, views_of

LANES: Final = 16
"""float32 values in a vector of AVX-512."""


class Folded(nn.Module):
    """What `classifier` computes, with fewer steps: uint8 [n, c, h, w] -> probabilities, float32 [n, classes]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = copy.deepcopy(classifier.network)
        # In double precision, so that folding adds one rounding to each weight and no more.
        mean, std = (buffer.double().reshape(1, -1, 1, 1) for buffer in (classifier.mean, classifier.std))
        temperature = classifier.temperature.double()
        self.gamma = classifier.gamma.item()
        self.views = classifier.views
        conv1, out = self.network.conv1, self.network.out
        assert conv1.padding == (0, 0)
        assert conv1.bias is not None
        with torch.no_grad():
            weight = conv1.weight.double() / std
            conv1.bias.copy_(conv1.bias.double() - (weight * mean).sum(dim=(1, 2, 3)))
            conv1.weight.copy_(weight / 255**self.gamma)
            out.weight.copy_(out.weight.double() / temperature)
            out.bias.copy_(out.bias.double() / temperature)
        self.eval()
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, c, h, w] -> probabilities, float32 [n, classes]."""
        pixels = views_of(images, self.views).to(torch.float32)
        if self.gamma != 1:
            pixels = pixels.sqrt() if self.gamma == 0.5 else pixels**self.gamma
        return torch.softmax(mean_of_views(self.logits(pixels), self.views), dim=1)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of pixels to the power of gamma, float32 [n, c, h, w]."""
        logits: Tensor = self.network(pixels)
        return logits


class ForTorchScript(Folded):
    """Max-pooling as the larger of two rows, then of two columns: on vectors, where PyTorch's goes pixel by pixel."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.network.pool = _PairwiseMaximum()  # type: ignore[assignment]


class ForOnnxRuntime(Folded):
    """Convolutions with filters of zeros, up to a multiple of `LANES`.

    With AVX-512 ONNX Runtime computes so many at once anyhow, and pools what a convolution leaves in vectors only where
    there are no fewer. What the zeros give is dropped before conv2, and has weights of zero in fc1.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        network = self.network
        self.filters = network.conv1.out_channels
        features_per_filter = network.fc1.in_features // network.conv2.out_channels
        added = [_add_filters(convolution) for convolution in (network.conv1, network.conv2)]
        network.fc1.weight = _padded(network.fc1.weight, (0, added[1] * features_per_filter))

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of pixels to the power of gamma, float32 [n, c, h, w]."""
        network = self.network
        maps = network.pool(network.activation(network.conv1(pixels)))[:, : self.filters]
        maps = network.pool(network.activation(network.conv2(maps)))
        return network.classify(maps.flatten(1))


class _PairwiseMaximum(nn.Module):
    """Max-pooling by 2 x 2: a last row or column without a partner is left out."""

    def forward(self, maps: Tensor) -> Tensor:
        rows = torch.maximum(maps[..., :-1:2, :], maps[..., 1::2, :])
        return torch.maximum(rows[..., :-1:2], rows[..., 1::2])


def _add_filters(convolution: nn.Conv2d) -> int:
    """Append filters of zeros, whose outputs every activation leaves at zero; how many."""
    added = -convolution.out_channels % LANES
    assert convolution.bias is not None
    convolution.weight = _padded(convolution.weight, (0, 0, 0, 0, 0, 0, 0, added))
    convolution.bias = _padded(convolution.bias, (0, added))
    return added


def _padded(parameter: Tensor, pad: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(functional.pad(parameter, pad), requires_grad=False)
