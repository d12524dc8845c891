"""A finished ONNX model, and the graph around it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.finished.wrapping import Wrapping
from fashion_mnist.errors import ExportError
from fashion_mnist.task import Geometry

PREFIX: Final = "model/"
"""Before every name of the finished model, so that none is that of our own nodes."""

_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Whose operators ONNX Runtime has."""

_ERRORS_ONLY: Final = 3


def read(path: Path) -> onnx.ModelProto:
    """The model, its weights included. Raises ExportError with the reason why it cannot be served."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ExportError(
            f"{path} is no ONNX model ({str(error)[:80]}): name a file that torch.onnx.export or the like wrote"
        ) from None
    if not model.graph.node:
        raise ExportError(f"{path} is no ONNX model: it has no nodes")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ExportError(
                f"{path} keeps its weights in a file that cannot be read ({str(error)[:160]}): put it beside the model"
            ) from None
    _check_operators(model)
    _check_weights(model)
    return model


def outputs_of(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the model itself gives, float32 [n, classes], for normalised images, float32 [n, c, h, w].

    Raises ExportError.
    """
    session = _session(model)
    try:
        found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ExportError(
            f"the model cannot compute {len(images)} images at once ({str(error)[:160]}): let its batch be dynamic"
        ) from None
    return found


def check_signature(model: onnx.ModelProto, geometry: Geometry, classes: int) -> None:
    """Let the batch be dynamic, and raise ExportError unless the model takes such images and gives so many classes."""
    graph = model.graph
    inputs = _inputs(graph)
    for kind, found in (("inputs", inputs), ("outputs", list(graph.output))):
        if len(found) != 1:
            names = ", ".join(value.name for value in found)
            raise ExportError(
                f"the model has {len(found)} {kind} ({names}): served are models with one; export it with one"
            )
    (image,), (answer,) = inputs, graph.output
    if (element := image.type.tensor_type.elem_type) != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(element)
        raise ExportError(f"the model takes {kind} and not FLOAT: export it with a float32 input")
    _check_shape("input", image, list(geometry), f"--size {'x'.join(map(str, geometry))}")
    if len(answer.type.tensor_type.shape.dim) in (0, 2):
        _check_shape("output", answer, [classes], f"{classes} class names")
    else:
        raise ExportError(f"the model's output has the shape {_shape(answer)}: needed is [batch, classes]")


def wrap(model: onnx.ModelProto, wrapping: Wrapping) -> onnx.ModelProto:
    """`images` uint8 [batch, c, h, w] to `probabilities` float32 [batch, classes], around the model."""
    inner = onnx.compose.add_prefix(model, PREFIX)
    graph = inner.graph
    (image,) = _inputs(graph)
    (answer,) = graph.output
    before = [
        helper.make_node("Cast", ["images"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"], "scale_images"),
        helper.make_node("Add", ["scaled", "shift"], [image.name], "shift_images"),
    ]
    last = "Identity" if wrapping.output == "probabilities" else "Softmax"
    axis: dict[str, Any] = {} if last == "Identity" else {"axis": 1}
    after = helper.make_node(last, [answer.name], ["probabilities"], "answer", **axis)
    composed = helper.make_graph(
        [*before, *graph.node, after],
        "finished_model",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *wrapping.geometry])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", wrapping.classes])],
        [
            *graph.initializer,
            numpy_helper.from_array(wrapping.scale, "scale"),
            numpy_helper.from_array(wrapping.shift, "shift"),
        ],
    )
    composed.sparse_initializer.extend(graph.sparse_initializer)
    return helper.make_model(
        composed, opset_imports=inner.opset_import, functions=inner.functions, ir_version=inner.ir_version
    )


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Without the weights, which older files list among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _check_operators(model: onnx.ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    for imported in model.opset_import:
        if imported.domain in ("", "ai.onnx") and imported.version > newest:
            raise ExportError(
                f"the model needs opset {imported.version}, and {newest} is the newest known: "
                f"export it with opset_version={newest}"
            )
    functions = {function.domain for function in model.functions}
    if strange := sorted(
        {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _DOMAINS | functions}
    ):
        raise ExportError(
            f"the model has custom operators ({', '.join(strange[:3])}), which cannot be served: use ONNX's own"
        )


def _check_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
            values = numpy_helper.to_array(tensor)
            if not np.isfinite(values).all():
                raise ExportError(
                    f"the weights {tensor.name!r} are not all finite numbers (NaN or infinite): train again"
                )


def _check_shape(kind: str, value: onnx.ValueInfoProto, wanted: list[int], by: str) -> None:
    dimensions = value.type.tensor_type.shape.dim
    if not dimensions and kind == "output":
        return  # not stated; what it gives is looked at
    shown = _shape(value)
    if len(dimensions) != len(wanted) + 1:
        raise ExportError(f"the model's {kind} has the shape {shown}: needed is [batch, {', '.join(map(str, wanted))}]")
    sizes = [size.dim_value for size in dimensions[1:]]
    if kind == "input" and 0 in sizes:
        raise ExportError(f"the size of the model's input is dynamic, {shown}: export it for one size, here {by}")
    if 0 not in sizes and sizes != wanted:
        hint = ": channels come last there, export it with channels first" if sizes == [*wanted[1:], wanted[0]] else ""
        raise ExportError(f"the model's {kind} has the shape {shown}, which does not match {by}{hint}")
    dimensions[0].Clear()
    dimensions[0].dim_param = "batch"


def _shape(value: onnx.ValueInfoProto) -> str:
    shown = [size.dim_param or str(size.dim_value or "?") for size in value.type.tensor_type.shape.dim]
    return f"[{', '.join(shown)}]"


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    arguments: dict[str, Any] = {"providers": ["CPUExecutionProvider"]}
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, **arguments)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ExportError(f"ONNX Runtime cannot load the model: {str(error)[:200]}") from None
