"""Describes the network from its layers: arguments with their reasons, shapes, parameters."""

import itertools
from typing import Any, Final

import torch
from torch import nn

from fashion_mnist.network import Network

_SHAPE_ARGUMENTS: Final = {
    nn.Conv2d: ("in_channels", "kernel_size", "out_channels"),
    nn.Linear: ("in_features", "out_features"),
}


def describe(network: Network) -> dict[str, Any]:
    """The layers' arguments with reasons, the shape after each step, and the shapes and counts of parameters."""
    layers = [(name, layer) for name, layer in network.named_children() if type(layer) in _SHAPE_ARGUMENTS]
    steps = _steps(network)
    flattened = next(before["shape"] for before, step in itertools.pairwise(steps) if step["step"] == "flatten")
    return {
        "arguments": [row for index in range(len(layers)) for row in _arguments(layers, index, flattened)],
        "steps": steps,
        "parameters": [
            {"name": name, "shape": list(parameter.shape), "count": parameter.numel()}
            for name, parameter in network.named_parameters()
        ],
        "total": sum(parameter.numel() for parameter in network.parameters()),
    }


def _arguments(layers: list[tuple[str, nn.Module]], index: int, flattened: list[int]) -> list[dict[str, Any]]:
    """The rows of one layer; `flattened` is the shape of what is flattened before the linear layers."""
    name, layer = layers[index]
    before = layers[index - 1][1] if index else None
    last = index == len(layers) - 1
    rows = []
    for parameter in _SHAPE_ARGUMENTS[type(layer)]:
        value = getattr(layer, parameter)
        argument = str(value[0] if isinstance(value, tuple) else value)
        kind = "hyperparameter"
        why = ""
        if parameter == "in_channels":
            kind = "data-dependent"
            why = (
                "the number of colour channels in the input image"
                if before is None
                else "the number of out_channels in the previous layer"
            )
        elif parameter == "in_features":
            kind = "data-dependent"
            why = "the number of out_features of the previous layer"
            if isinstance(before, nn.Conv2d):
                argument = "*".join(map(str, flattened))
                why = "the length of the flattened output of the previous layer"
        elif parameter == "out_features" and last:
            kind = "data-dependent"
            why = "the number of prediction classes"
        elif type(before) is type(layer) and parameter.startswith("out_"):
            earlier = getattr(before, parameter)
            if value > earlier:
                why = f"higher than the previous {_kind(layer)} layer's"
            elif value < earlier:
                why = f"lower than the previous {_kind(layer)} layer's"
        rows.append({"layer": name, "parameter": parameter, "argument": argument, "kind": kind, "why": why})
    return rows


def _steps(network: Network) -> list[dict[str, Any]]:
    """The shape of one image after each step, recorded from a forward pass."""
    steps: list[dict[str, Any]] = [{"step": "images", "shape": list(network.geometry)}]
    names = {module: name for name, module in network.named_children()}

    def record(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        taken = list(inputs[0].shape[1:])
        if taken != steps[-1]["shape"]:
            steps.append({"step": "flatten", "shape": taken})
        steps.append({"step": names[module], "shape": list(output.shape[1:])})

    hooks = [module.register_forward_hook(record) for module in names]
    with torch.inference_mode():
        network(torch.zeros(1, *network.geometry))
    for hook in hooks:
        hook.remove()
    return steps


def _kind(layer: nn.Module) -> str:
    return "conv" if isinstance(layer, nn.Conv2d) else "linear"
