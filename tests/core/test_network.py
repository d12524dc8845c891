"""The network: these names and sizes exactly, and every other geometry that makes sense."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fashion_mnist.errors import ModelError, UsageError
from fashion_mnist.network import Classifier, Network, load_weights, save_weights
from fashion_mnist.task import Geometry

SIZES = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (12, 6, 5, 5),
    "conv2.bias": (12,),
    "fc1.weight": (120, 12 * 4 * 4),
    "fc1.bias": (120,),
    "fc2.weight": (60, 120),
    "fc2.bias": (60,),
    "out.weight": (10, 60),
    "out.bias": (10,),
}


def test_without_arguments_it_is_the_released_network() -> None:
    network = Network()
    assert {name: tuple(parameter.shape) for name, parameter in network.named_parameters()} == SIZES
    assert sum(parameter.numel() for parameter in network.parameters()) == 32_998
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_forward_is_the_order_of_the_design() -> None:
    network = Network()
    images = torch.randn(2, 1, 28, 28)
    maps = torch.max_pool2d(torch.relu(network.conv1(images)), 2)
    maps = torch.max_pool2d(torch.relu(network.conv2(maps)), 2)
    expected = network.out(torch.relu(network.fc2(torch.relu(network.fc1(maps.flatten(1))))))
    assert torch.equal(network(images), expected)


@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    classes=st.integers(1, 12),
    kernel_size=st.integers(1, 7),
)
def test_any_geometry_builds_or_is_said_to_be_too_small(
    channels: int, height: int, width: int, classes: int, kernel_size: int
) -> None:
    try:
        network = Network(Geometry(channels, height, width), classes, kernel_size=kernel_size)
    except UsageError as error:
        assert re.search(r"conv[12] with its .* kernels leaves", error.message)
        side = (min(height, width) - kernel_size + 1) // 2
        assert (side - kernel_size + 1) < 2
    else:
        assert network(torch.zeros(1, channels, height, width)).shape == (1, classes)


def test_another_data_set_changes_what_follows_from_data_only() -> None:
    network = Network(Geometry(3, 32, 32), 5)
    assert network.conv1.in_channels == 3
    assert network.fc1.in_features == 12 * 5 * 5
    assert network.out.out_features == 5
    assert (network.conv1.out_channels, network.fc1.out_features) == (6, 120)


def test_a_classifier_owns_scaling_temperature_and_softmax() -> None:
    network = Network().eval()
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    logits = network((images.float() / 255 - 0.3) / 0.4)
    assert torch.allclose(Classifier(network, 0.3, 0.4)(images), logits.softmax(1))
    assert torch.allclose(Classifier(network, 0.3, 0.4, temperature=2.0)(images), (logits / 2).softmax(1))
    powers = network(((images.float() / 255).sqrt() - 0.3) / 0.4)
    assert torch.allclose(Classifier(network, 0.3, 0.4, gamma=0.5)(images), powers.softmax(1))


def test_views_are_averaged_by_their_log_probabilities() -> None:
    classifier = Classifier(Network().eval(), 0.3, 0.4)
    images = torch.randint(0, 255, (4, 1, 28, 28), dtype=torch.uint8)
    mirrored = (classifier(images).log() + classifier(images.flip(-1)).log()) / 2
    moved = [torch.zeros_like(images) for _ in range(2)]
    moved[0][..., 1:], moved[1][..., :-1] = images[..., :-1], images[..., 1:]
    both = [classifier(each).log() / 4 for one in moved for each in (one, one.flip(-1))]
    classifier.views = "mirror"
    assert torch.allclose(classifier(images), mirrored.softmax(1), atol=1e-6)
    classifier.views = "mirror-and-pixel"
    assert torch.allclose(classifier(images), sum(both, torch.zeros(4, 10)).softmax(1), atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_weights_come_back_as_they_were_saved(tmp_path: Path, activation: str) -> None:
    classifier = Classifier(Network(activation=activation), 0.28, 0.35, 1.5, gamma=0.5).eval()
    save_weights(classifier, tmp_path / "weights.pt")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), np.uint8))
    assert torch.equal(load_weights(tmp_path / "weights.pt")(images), classifier(images))


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    classifier = Classifier(Network(), 0.28, 0.35)
    for name in ("one.pt", "other.pt"):
        save_weights(classifier, tmp_path / name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_weights(tmp_path / "missing.pt")
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="weights.pt"):
        load_weights(path)
    torch.save({"activation": "relu", "state_dict": torch.nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(ModelError, match="no weights of this network"):
        load_weights(path)
    # A pickle that would run code is not even looked into.
    torch.save({"activation": Path}, path)
    with pytest.raises(ModelError):
        load_weights(path)
