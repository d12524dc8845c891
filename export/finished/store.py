"""A finished model's store: the graphs with what stands around them, compared with the model itself, and a card."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from export import parity, torchscript
from export.finished import onnx_file, torch_file
from export.finished.wrapping import Wrapping, is_distribution, softmax
from export.onnx import polish
from export.parity import Parity
from fashion_mnist import task as tasks
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import MODEL_FILES, load_file
from fashion_mnist.errors import ExportError, UsageError
from fashion_mnist.model_store import CARD
from fashion_mnist.system import checksums
from fashion_mnist.task import HealthCheck, Task

CHECKED: Final = 16
"""Random images on which the store's graphs are compared with the model."""

HEALTH_IMAGE: Final = "samples/health_check.png"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was written: the card, how the graphs compare with the model, and what its outputs were taken for."""

    folder: Path
    card: dict[str, Any]
    parities: tuple[Parity, ...]
    output: str


def import_model(
    source: Path,
    folder: Path,
    task: Task,
    wrapping: Wrapping,
    *,
    version: str,
    health_image: NDArray[np.uint8] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Imported:
    """Make the model store `folder` of a finished model: model.onnx, model.torchscript.pt where it can be had, card.

    `health_image`, uint8 [c, h, w], must get the label of the task's health check. Without it a random image takes its
    place, and the label that the model gives that.

    Raises ExportError with the reason where the model cannot be served, and UsageError where `folder` is there already;
    nothing is left behind then.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: name another --output")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (CHECKED, *wrapping.geometry), dtype=np.uint8)
    if health_image is not None:
        images[0] = health_image
    progress(f"reading {source.name}")
    graph, script, outputs = _read(source, wrapping, wrapping.normalise(images))
    _check_outputs(outputs, wrapping)
    output = wrapping.output or ("probabilities" if is_distribution(outputs) else "logits")
    wrapping = replace(wrapping, output=output)
    expected = outputs if output == "probabilities" else softmax(outputs)
    likeliest = int(expected[0].argmax())
    label, wanted = task.classes[likeliest], task.health_check.label
    if health_image is not None and label != wanted:
        raise ExportError(
            f"the model takes the --check image for {label!r} ({expected[0, likeliest]:.1%}) not for {wanted!r}: are "
            "--mean, --std, --resize and the order of --classes its own?"
        )
    task = replace(task, health_check=HealthCheck(HEALTH_IMAGE, label))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import.") as name:
            staging = Path(name) / "store"
            (staging / HEALTH_IMAGE).parent.mkdir(parents=True)
            (staging / HEALTH_IMAGE).write_bytes(encode_image(images[0]))
            progress("writing the graphs")
            models = _write_graphs(staging, graph, script, wrapping)
            progress(f"comparing them with the model on {CHECKED} images")
            parities = tuple(_compare(staging, models, task, images, expected))
            card = _card(task, version, source, wrapping, parities, {name: staging / name for name in models})
            (staging / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            checksums.write(staging, [*models, CARD, HEALTH_IMAGE])
            if folder.exists():
                folder.rmdir()
            staging.chmod(0o755)
            os.replace(staging, folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error}): make room, or name another --output") from error
    return Imported(folder=folder, card=card, parities=parities, output=output)


def _read(
    source: Path, wrapping: Wrapping, images: NDArray[np.float32]
) -> tuple[onnx.ModelProto | None, nn.Module | None, NDArray[np.float32]]:
    """The model, as ONNX or as PyTorch's module, and what it gives for normalised images."""
    if not source.is_file():
        raise ExportError(f"{source} is no file: name an .onnx, .pt or .pt2 file")
    if source.suffix == ".onnx":
        graph = onnx_file.read(source)
        onnx_file.check_signature(graph, wrapping.geometry, wrapping.classes)
        return graph, None, onnx_file.outputs_of(graph, images)
    module = torch_file.read(source)
    return None, module, torch_file.outputs_of(module, images)


def _check_outputs(outputs: NDArray[np.float32], wrapping: Wrapping) -> None:
    if outputs.shape != (CHECKED, wrapping.classes):
        shape = " x ".join(map(str, outputs.shape))
        raise ExportError(
            f"the model gives {shape} numbers for {CHECKED} images, and there are {wrapping.classes} class names: "
            "--classes needs a line for each class, in the order of its outputs"
        )
    if not np.isfinite(outputs).all():
        raise ExportError("the model answers random images with NaN or infinite numbers: it cannot be served")
    if wrapping.output == "probabilities" and not is_distribution(outputs):
        raise ExportError("the model's outputs are no probabilities (their sum is not 1): say --logits")


def _write_graphs(
    folder: Path, graph: onnx.ModelProto | None, script: nn.Module | None, wrapping: Wrapping
) -> list[str]:
    names = [MODEL_FILES["onnx"]]
    if script is not None:
        wrapped = torch_file.Wrapped(script, wrapping)
        graph = torch_file.to_onnx(wrapped, wrapping.geometry)
        polish(graph)
        # Of an exported program TorchScript cannot always be traced: a reshape may compute with the size of the batch.
        with contextlib.suppress(RuntimeError):
            torchscript.export(wrapped, folder / MODEL_FILES["torchscript"], wrapping.geometry)
            names.append(MODEL_FILES["torchscript"])
    else:
        assert graph is not None
        graph = onnx_file.wrap(graph, wrapping)
    try:
        (folder / names[0]).write_bytes(graph.SerializeToString(deterministic=True))
    except ValueError:
        raise ExportError("the model is larger than 2 GiB, which one ONNX file cannot hold") from None
    return names


def _compare(
    folder: Path, models: list[str], task: Task, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> list[Parity]:
    found = []
    runtimes = {name: runtime for runtime, name in MODEL_FILES.items()}
    for name in models:
        answers = parity.answers(load_file(folder / name, "cpu", task=task), images)
        found.append(parity.compare(runtimes[name], expected, answers))
        found[-1].check()
    return found


def _card(
    task: Task,
    version: str,
    source: Path,
    wrapping: Wrapping,
    parities: tuple[Parity, ...],
    files: dict[str, Path],
) -> dict[str, Any]:
    return {
        "name": task.name,
        "model_version": version,
        "description": f"{source.name}, a finished model, with its normalisation and softmax inside the graph.",
        tasks.CARD_SECTION: task.to_card(),
        "network": {
            "input": {"name": "images", "dtype": "uint8", "shape": ["batch", *task.geometry]},
            "output": {"name": "probabilities", "dtype": "float32", "shape": ["batch", len(task.classes)]},
            "classes": list(task.classes),
        },
        "imported": {
            "file": source.name,
            "sha256": checksums.of(source),
            "mean": list(wrapping.mean),
            "std": list(wrapping.std),
            "output": wrapping.output,
        },
        "parity": {
            "reference": "the finished model itself, on random images",
            "limit": parity.LIMIT,
            "engines": {
                each.engine: {
                    "images": each.images,
                    "labels_that_differ": each.labels_that_differ,
                    "largest_difference": each.largest_difference,
                }
                for each in parities
            },
        },
        "files": {name: {"bytes": path.stat().st_size, "sha256": checksums.of(path)} for name, path in files.items()},
    }
