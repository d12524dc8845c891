"""explain.onnx: the network with every layer's output, for `fashion_mnist.explanation`.

It is the classifier step by step, not folded, so that its weights and what its layers give are those of the network.
Its weights are outputs too: whoever draws the arithmetic reads them from the same file.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from export.onnx import check_valid, convert
from fashion_mnist.description import describe
from fashion_mnist.errors import ExportError
from fashion_mnist.explanation import METADATA, PROBABILITIES, Explainer
from fashion_mnist.model_store import EXPLAIN
from fashion_mnist.network import POOL, Classifier, Network

LIMIT: Final = 1e-4
"""The largest difference of a layer's output that float32's rounding may explain: logits are some tens."""

IMAGES: Final = 1000
"""Images of the test set on which each layer is compared; the probabilities are on all."""


_ORDER: Final = (
    ("normalized", "normalized"),
    ("conv1", "conv"),
    ("conv1_activation", "activation"),
    ("pool1", "pool"),
    ("conv2", "conv"),
    ("conv2_activation", "activation"),
    ("pool2", "pool"),
    ("flatten", "flatten"),
    ("fc1", "linear"),
    ("fc1_activation", "activation"),
    ("fc2", "linear"),
    ("fc2_activation", "activation"),
    ("out", "linear"),
    (PROBABILITIES, "probabilities"),
)
"""The layers' names and kinds, as `Layers` computes them."""


class Layers(nn.Module):
    """The outputs of all layers of a classifier, in the order of `_ORDER`."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 [n, channels, height, width] -> float32 [n, ...] for each layer.

        The layers are those of the image itself; the probabilities are the classifier's, over its views.
        """
        classifier, network = self.classifier, self.classifier.network
        outputs = [classifier.normalise(images)]
        for convolution in (network.conv1, network.conv2):
            outputs.append(convolution(outputs[-1]))
            outputs.append(network.activation(outputs[-1]))
            outputs.append(network.pool(outputs[-1]))
        outputs.append(outputs[-1].flatten(1))
        for linear in (network.fc1, network.fc2):
            outputs.append(linear(outputs[-1]))
            outputs.append(network.activation(outputs[-1]))
        outputs.append(network.out(outputs[-1]))
        one_view = classifier.views == "one"
        outputs.append(torch.softmax(outputs[-1] / classifier.temperature, dim=1) if one_view else classifier(images))
        return tuple(outputs)


def layers_of(network: Network) -> list[dict[str, Any]]:
    """Each layer's name, kind, shape for one image, the layer it is computed from, and the names of its weights."""
    with torch.inference_mode():
        outputs = Layers(Classifier(network, mean=0.0, std=1.0))(torch.zeros(1, *network.geometry, dtype=torch.uint8))
    layers: list[dict[str, Any]] = []
    before = "input"
    for (name, kind), output in zip(_ORDER, outputs, strict=True):
        shape = list(output.shape[1:])
        layers.append({"name": name, "kind": kind, "shape": shape, "from": before})
        if kind in ("conv", "linear"):
            layers[-1] |= {part: f"{name}.{part}" for part in ("weight", "bias")}
        before = name
    return layers


def export(classifier: Classifier, path: Path) -> None:
    """Write explain.onnx; the same weights give the same bytes. Raises ExportError for an invalid graph."""
    network = classifier.network
    assert isinstance(network, Network)
    layers = layers_of(network)
    model = convert(Layers(classifier), classifier.task.geometry, [layer["name"] for layer in layers])
    _give_weights(model, {layer[part] for layer in layers for part in ("weight", "bias") if part in layer})
    described = {
        "classes": list(classifier.task.classes),
        "geometry": network.geometry._asdict(),
        "activation": network.activation_name,
        "pool": POOL,
        "gamma": classifier.gamma.item(),
        "mean": _by_channel(classifier.mean),
        "std": _by_channel(classifier.std),
        "temperature": classifier.temperature.item(),
        "views": classifier.views,
        "description": describe(network),
        "layers": layers,
    }
    model.metadata_props.add(key=METADATA, value=json.dumps(described))
    check_valid(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _by_channel(values: Tensor) -> float | list[float]:
    """A number for one channel, else a number for each."""
    found: list[float] = values.flatten().tolist()
    return found[0] if len(found) == 1 else found


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerParity:
    """How the layers of explain.onnx differ from the network's own, in PyTorch."""

    images: int
    largest_difference: float
    layer: str
    """In which layer that is."""

    def check(self) -> None:
        """Raise ExportError where a value differs by more than `LIMIT`."""
        if not self.largest_difference <= LIMIT:
            raise ExportError(
                f"{EXPLAIN} disagrees with the network: {self.layer} differs by {self.largest_difference:.1e} (at most "
                f"{LIMIT:.0e}); the old files are untouched"
            )


def compare(classifier: Classifier, model_store: Path, images: np.ndarray, expected: np.ndarray) -> LayerParity:
    """Compare on images, uint8 [n, c, h, w], of which `expected` has the classifier's own probabilities.

    The layers' outputs are read where PyTorch computes them in the classifier's own `forward`.
    """
    explainer = Explainer(model_store)
    compared = images[:IMAGES]
    found = explainer.layers(compared)
    differences = {
        name: float(np.abs(found[name] - own).max()) for name, own in outputs_of(classifier, compared).items()
    }
    starts = range(0, len(images), IMAGES)
    all_of_them = np.concatenate([explainer.layers(images[at : at + IMAGES])[PROBABILITIES] for at in starts])
    differences[PROBABILITIES] = float(np.abs(all_of_them - expected).max())
    # NaN is the largest of all.
    worst = max(differences, key=lambda name: (np.isnan(differences[name]), differences[name]))
    return LayerParity(images=len(images), largest_difference=differences[worst], layer=worst)


def outputs_of(classifier: Classifier, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the modules of a classifier's network give for images, uint8 [n, c, h, w], by the layers' names.

    Modules that are used several times are named by what they were given.
    """
    network = classifier.network
    names = {module: name for name, module in network.named_children()}
    found: dict[str, np.ndarray] = {}
    last = ""

    def record(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal last
        name = names[module]
        if module is network.activation:
            name = f"{last}_activation"
        elif module is network.pool:
            name = "pool" + last.removesuffix("_activation").removeprefix("conv")
        found.setdefault("normalized", inputs[0].numpy())
        if module is network.fc1:
            found["flatten"] = inputs[0].numpy()
        found[name], last = output.numpy(), name

    hooks = [module.register_forward_hook(record) for module in names]
    try:
        with torch.inference_mode():
            network(classifier.normalise(torch.tensor(images).reshape(-1, *network.geometry)))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _give_weights(model: onnx.ModelProto, names: set[str]) -> None:
    """Name the weights as the network does, and make them outputs."""
    prefix = "classifier.network."
    graph = model.graph
    for node in graph.node:
        node.input[:] = [name.removeprefix(prefix) for name in node.input]
    for tensor in graph.initializer:
        tensor.name = tensor.name.removeprefix(prefix)
        if tensor.name in names:
            graph.output.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for value in graph.value_info:
        value.name = value.name.removeprefix(prefix)
    if missing := names - {tensor.name for tensor in graph.initializer}:
        raise ExportError(f"the exported ONNX graph lacks {', '.join(sorted(missing))}")
