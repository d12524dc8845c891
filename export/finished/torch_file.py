"""A finished PyTorch model: TorchScript (`torch.jit.save`) or an exported program (`torch.export.save`).

A pickled module or state is never loaded: unpickling runs whatever its author put into it.
"""

import json
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.finished.wrapping import Wrapping
from fashion_mnist.errors import ExportError
from fashion_mnist.task import Geometry

_AS_NEEDED: Final = "save it with torch.jit.save, or with torch.export.save, or convert it to ONNX"


class Wrapped(nn.Module):
    """A finished model with what stands around it: uint8 [n, c, h, w] to probabilities, float32 [n, classes]."""

    def __init__(self, model: nn.Module, wrapping: Wrapping) -> None:
        super().__init__()
        self.model = model
        self.softmax = wrapping.output != "probabilities"
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", torch.tensor(wrapping.scale))
        self.register_buffer("shift", torch.tensor(wrapping.shift))

    def train(self, mode: bool = True) -> Self:
        """Stay in the state for inference, which an exported program cannot leave or be put into."""
        for module in self.modules():
            module.training = False
        return self

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.model(images.float() * self.scale + self.shift)
        return outputs.softmax(1) if self.softmax else outputs


def read(path: Path) -> nn.Module:
    """The model, on the CPU, in the state for inference. Raises ExportError with the reason why it cannot be served."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ExportError(f"{path} is neither TorchScript nor an exported program ({error}): {_AS_NEEDED}") from None
    parts = {name.partition("/")[2] for name in names}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations that only the model's author could heed
            if any(part.startswith("code/") for part in parts):
                module: nn.Module = torch.jit.load(str(path), map_location="cpu")
                module.eval()
            elif "archive_format" in parts:
                _refuse_pickled_constants(path, names)
                module = torch.export.load(str(path)).module(check_guards=False)
            else:
                raise ExportError(
                    f"{path} is a pickled module or its weights, which are never loaded "
                    f"(unpickling runs code): {_AS_NEEDED}"
                )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ExportError(f"{path} cannot be loaded ({_first_line(error)}): {_AS_NEEDED}") from None
    _check_weights(module)
    return module


def outputs_of(module: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the model itself gives, float32 [n, classes], for normalised images, float32 [n, c, h, w].

    Raises ExportError.
    """
    try:
        with torch.inference_mode():
            outputs = module(torch.tensor(images))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        shape = ", ".join(map(str, images.shape))
        raise ExportError(
            f"the model cannot compute images [{shape}] ({_first_line(error)}): give its own --size, and "
            "export it with a dynamic batch"
        ) from None
    if not isinstance(outputs, Tensor):
        raise ExportError(f"the model gives a {type(outputs).__name__}: served are models that give one tensor")
    found: NDArray[np.float32] = outputs.float().numpy()
    return found


def to_onnx(wrapped: Wrapped, geometry: Geometry) -> onnx.ModelProto:
    """The wrapped model as ONNX. Raises ExportError where PyTorch cannot convert it."""
    example = torch.zeros(2, *geometry, dtype=torch.uint8)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"]}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if isinstance(wrapped.model, torch.jit.ScriptModule):
                # The exporter by torch.export takes no TorchScript.
                batches = {"images": {0: "batch"}, "probabilities": {0: "batch"}}
                traced = torch.jit.trace(wrapped.eval(), example)
                with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
                    torch.onnx.export(traced, (example,), file.name, dynamo=False, dynamic_axes=batches, **names)
                    return onnx.load(file.name)
            program = torch.onnx.export(
                wrapped.eval(),
                (example,),
                dynamo=True,
                verbose=False,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                **names,
            )
    except Exception as error:  # of many kinds, by the step that failed
        raise ExportError(f"PyTorch cannot convert the model to ONNX: {_first_line(error)}") from None
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _refuse_pickled_constants(path: Path, names: Sequence[str]) -> None:
    """torch.export.load unpickles constants that are no tensors."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            if name.endswith("_constants_config.json"):
                payloads = json.loads(archive.read(name)).get("config", {}).values()
                kept = [payload.get("path_name", "") for payload in payloads]
                if strange := [each for each in kept if not each.startswith("tensor_")]:
                    raise ExportError(
                        f"{path} holds pickled objects ({strange[0]}), which are never loaded: {_AS_NEEDED}"
                    )


def _check_weights(module: nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ExportError(f"the weights {name!r} are not all finite numbers (NaN or infinite): train again")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
