"""Folding: the same function, with fewer steps."""

import copy

import pytest
import torch

from export.folding import Folded, ForOnnxRuntime, ForTorchScript
from fashion_mnist.network import ACTIVATIONS, VIEWS, Classifier, Network
from fashion_mnist.task import Geometry


def random_classifier(activation: str = "relu", *, gamma: float = 0.5, views: str = "one") -> Classifier:
    torch.manual_seed(3)
    classifier = Classifier(Network(activation=activation), mean=0.29, std=0.35, temperature=0.7, gamma=gamma).eval()
    classifier.views = views
    with torch.no_grad():
        # Larger than at the start of training, so that the probabilities are far from all being 0.1.
        for parameter in classifier.parameters():
            parameter.mul_(2)
    return classifier


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (500, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("folding", [Folded, ForOnnxRuntime, ForTorchScript])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_gives_the_same_probabilities(folding: type[Folded], activation: str, images: torch.Tensor) -> None:
    classifier = random_classifier(activation)
    expected = classifier(images)
    assert expected.std() > 0.05
    torch.testing.assert_close(folding(classifier)(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("folding", [ForOnnxRuntime, ForTorchScript])
@pytest.mark.parametrize("side", [29, 30, 31])
def test_a_last_row_and_column_that_are_not_pooled_change_nothing(folding: type[Folded], side: int) -> None:
    network = Network(Geometry(1, side, side + 1), conv1_out=16, conv2_out=17)
    classifier = Classifier(network, mean=0.29, std=0.35, gamma=0.5).eval()
    images = torch.randint(0, 256, (50, 1, side, side + 1), dtype=torch.uint8)
    torch.testing.assert_close(folding(classifier)(images), classifier(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.6])
@pytest.mark.parametrize("views", list(VIEWS))
def test_every_power_and_all_views_give_the_same_probabilities(gamma: float, views: str, images: torch.Tensor) -> None:
    classifier = random_classifier(gamma=gamma, views=views)
    torch.testing.assert_close(Folded(classifier)(images), classifier(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("buffer", ["mean", "std", "temperature"])
def test_every_buffer_counts(buffer: str, images: torch.Tensor) -> None:
    classifier = random_classifier()
    before = Folded(classifier)(images)
    getattr(classifier, buffer).mul_(1.5)
    assert (Folded(classifier)(images) - before).abs().max() > 1e-3


def test_leaves_the_classifier_as_it_was() -> None:
    classifier = random_classifier()
    before = copy.deepcopy(classifier.state_dict())
    Folded(classifier)
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name]), name
