"""ONNX: one file with one graph, `images` uint8 [batch, channels, height, width] to `probabilities`
float32 [batch, classes]."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from fashion_mnist.errors import ExportError
from fashion_mnist.task import Geometry, Task


def export(module: nn.Module, path: Path, task: Task) -> None:
    """Write `module` (uint8 [n, c, h, w] -> float32 [n, classes]) to `path` and check it.

    The same weights give the same bytes.

    Raises ExportError where the graph is not valid, or not the one that the contract describes.
    """
    path.write_bytes(convert(module, task.geometry, ["probabilities"]).SerializeToString(deterministic=True))
    check(path, task)


def convert(module: nn.Module, geometry: Geometry, outputs: Sequence[str]) -> onnx.ModelProto:
    """`module`, which takes images, uint8 [n, c, h, w], and gives a tensor for each of `outputs`, as ONNX."""
    # Two, because the exporter takes an example of one for a dimension that is always one.
    example = torch.zeros(2, *geometry, dtype=torch.uint8)
    with warnings.catch_warnings():
        # torch.export's own, from the copying of its trees.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["images"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    model = program.model_proto
    polish(model)
    return model


def check(path: Path, task: Task) -> None:
    """Raise ExportError unless the file is a valid ONNX model, whole in itself, with the contract's graph."""
    model = onnx.load(path, load_external_data=False)
    check_valid(model)
    graph = model.graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ExportError("the exported ONNX model keeps weights outside its file")
    for found, name, element, shape in (
        (list(graph.input), "images", onnx.TensorProto.UINT8, ["batch", *task.geometry]),
        (list(graph.output), "probabilities", onnx.TensorProto.FLOAT, ["batch", len(task.classes)]),
    ):
        described = [(value.name, value.type.tensor_type.elem_type, _shape(value)) for value in found]
        if described != [(name, element, shape)]:
            raise ExportError(f"the exported ONNX graph has {described} where {name} {shape} is due")


def check_valid(model: onnx.ModelProto) -> None:
    """Raise ExportError unless it is valid ONNX."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported ONNX graph is invalid: {error}") from error


def polish(model: onnx.ModelProto) -> None:
    """Remove what depends on the machine that exports: stack traces with its paths, and the wheel's kind (+cpu)."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    model.producer_version = model.producer_version.partition("+")[0]


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
