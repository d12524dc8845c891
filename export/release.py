"""The release: one set of weights becomes the files of a model store, together or not at all.

Everything is written and checked in a temporary folder inside the model store. Only then do the files move to their
names, each by an atomic rename, SHA256SUMS last. Several renames are not one: a crash between them leaves new files
beside the old SHA256SUMS. Engines compare checksums before they load a model, so such a store is refused, never served
half and half; running the export again puts it right.
"""

import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export import card, explain, mistakes, onnx, parity, reference, samples, torchscript
from export.folding import ForOnnxRuntime, ForTorchScript
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import MODEL_FILES, load_file
from fashion_mnist.errors import ExportError, ModelError, UsageError
from fashion_mnist.evaluation import evaluation
from fashion_mnist.model_store import CARD, EXPLAIN, VERSION
from fashion_mnist.network import VIEWS, Network, NetworkClass, load_weights
from fashion_mnist.system import checksums
from fashion_mnist.task import Task

WEIGHTS: Final = "weights.pt"
TRAINING_SUMMARY: Final = "training_summary.json"
FIRST_VERSION: Final = "1.0"
ROBUSTNESS_MARGIN: Final = 0.01
"""By how much less the mean accuracy over corruptions may be than the store's model's."""

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Takes uint8 [n, c, h, w] and gives probabilities, float32 [n, classes]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """What an export made: the card as it was written, and how each engine compares with the network."""

    folder: Path
    card: dict[str, Any]
    parities: tuple[parity.Parity, ...]


def release(
    weights: Path,
    model_store: Path,
    dataset: Dataset,
    *,
    version: str | None = None,
    views: str = "one",
    network_class: NetworkClass | None = None,
    robustness: Callable[[Predict, float | None], dict[str, Any]] | None = None,
    unknown: Callable[[Predict, float], list[dict[str, Any]]] | None = None,
    accept_less_robust: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Release:
    """Export `weights` to `model_store`: TorchScript, ONNX, samples, mistakes, card and checksums.

    `views` are those of `fashion_mnist.network.VIEWS` over which the graphs average. `robustness` takes the exported
    model and its threshold for unknown images, and gives the figures on changed images that the card shall have;
    `unknown` those on images that show no garment, for a model that has a threshold.

    A training_summary.json beside the weights goes into the card and along with them. `version` is by default the one
    after the store's own, or 1.0 in an empty one. `network_class` makes the weights' network where that is another than
    `fashion_mnist.network.Network`; then nothing is folded, and there is no explain.onnx. `progress` is told each step
    as it begins.

    Raises UsageError for an invalid version, before anything is read, and for weights of another task than the data's
    or the store's; ModelError for weights that cannot be read; ExportError for a graph that is invalid or that
    disagrees with the network on any test image, for a model that is less robust than the store's unless
    `accept_less_robust`, and where the store cannot be written. The store then stays as it was.
    """
    if version is not None:
        _check_version(version)
    progress("reading the weights")
    classifier = load_weights(weights, network_class).eval()
    version = _version(version, model_store, classifier.task)
    if views not in VIEWS:
        raise UsageError(f"views is {views!r}: choose one of {', '.join(VIEWS)}")
    classifier.views = views
    summary = _summary(weights)
    task = classifier.task
    if task != dataset.task:
        raise UsageError(
            f"the weights are of {task.title}, and the data of {dataset.task.title}: name the same with --data"
        )
    try:
        model_store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=model_store, prefix=".export.") as name:
            staging = Path(name)
            shutil.copyfile(weights, staging / WEIGHTS)
            progress("writing TorchScript")
            known = isinstance(classifier.network, Network)
            torchscript.export(
                ForTorchScript(classifier) if known else classifier, staging / MODEL_FILES["torchscript"], task.geometry
            )
            progress("writing ONNX")
            onnx.export(ForOnnxRuntime(classifier) if known else classifier, staging / MODEL_FILES["onnx"], task)
            models = [WEIGHTS, *MODEL_FILES.values()]
            if known:
                explain.export(classifier, staging / EXPLAIN)
                models.append(EXPLAIN)
            checksums.write(staging, models)

            images, labels = dataset.test.images, dataset.test.labels
            progress(f"the network's own answers to {len(images)} images")
            expected = parity.reference(classifier, images)
            found, parities = {}, []
            for runtime in MODEL_FILES:
                progress(f"parity of {runtime} on {len(images)} images")
                # The engines that will serve, reading the files that they will read.
                found[runtime] = parity.answers(load_file(staging / MODEL_FILES[runtime], "cpu", task=task), images)
                parities.append(parity.compare(runtime, expected, found[runtime]))
                parities[-1].check()
            layers = None
            if known:
                progress(f"parity of {EXPLAIN}, layer by layer")
                layers = explain.compare(classifier, staging, images, expected)
                layers.check()

            progress(f"the reference for drift from {len(dataset.train.images)} images")
            engine = load_file(staging / MODEL_FILES["onnx"], "cpu", task=task)
            drift = reference.fit(lambda batch: parity.answers(engine, batch), dataset.train.images, images)

            figures, others = None, None
            threshold = (summary or {}).get("unknown", {}).get("threshold")
            if robustness is not None:
                progress("robustness on changed images")
                figures = robustness(lambda batch: parity.answers(engine, batch), threshold)
                if not accept_less_robust:
                    _check_robustness(figures, model_store)
            if unknown is not None and threshold is not None:
                progress("images that show no garment")
                others = unknown(lambda batch: parity.answers(engine, batch), threshold)

            progress("writing samples and the model card")
            named = samples.write(staging, images, labels, found["onnx"], task)
            names = [*models, *named, *mistakes.write(staging, version, images, labels, found["onnx"], task)]
            content = card.build(
                version=version,
                classifier=classifier,
                task=dataclasses.replace(task, health_check=samples.health_check(task, named)),
                dataset=dataset,
                training=summary,
                evaluation=evaluation(found["onnx"], labels, task.classes),
                parities=parities,
                layers=layers,
                drift=drift,
                robustness=figures,
                others=others,
                files={name: staging / name for name in models},
            )
            (staging / CARD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            (staging / card.MARKDOWN).write_text(card.markdown(content), encoding="utf-8")
            names += [CARD, card.MARKDOWN]
            if summary is not None:
                (staging / TRAINING_SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
                names.append(TRAINING_SUMMARY)
            checksums.write(staging, names)
            _move_in(staging, model_store, [*names, checksums.NAME])
        if summary is None:
            # What lies there would describe other weights.
            (model_store / TRAINING_SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{model_store} cannot be written ({error}): make room, or name another --output") from error
    return Release(folder=model_store, card=content, parities=tuple(parities))


def _check_robustness(figures: dict[str, Any], model_store: Path) -> None:
    """Raise ExportError where the figures are worse than those that the card in the store has."""
    try:
        before = json.loads((model_store / CARD).read_bytes())["robustness"]["groups"]["corruption"]["accuracy"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    now = figures["groups"]["corruption"]["accuracy"]
    if now < before - ROBUSTNESS_MARGIN:
        raise ExportError(
            f"{now:.2%} of corrupted images are named correctly, where the released model has {before:.2%}: train with "
            "corrupted images, or export with --accept-less-robust"
        )


def _version(version: str | None, model_store: Path, task: Task) -> str:
    """The version to write: a name that the model in the store does not have.

    Raises UsageError for a store of another task's model.
    """
    try:
        card = json.loads((model_store / CARD).read_bytes())
        there, other = card["model_version"], card["name"]
    except (OSError, ValueError, KeyError, TypeError):
        there, other = None, task.name
    if other != task.name:
        raise UsageError(f"{model_store} has the model {other}, and the weights are of {task.name}: name an --output")
    if version is None:
        version = FIRST_VERSION if there is None else _next_version(str(there))
        _check_version(version)
    return version


def _check_version(version: str) -> None:
    """Raise UsageError for a version that fits no URL."""
    if not VERSION.fullmatch(version):
        raise UsageError(f"the version is {version!r}: use letters, digits, '.', '_' and '-', such as 1.1")


def _next_version(version: str) -> str:
    """ "1.0" -> "1.1". Raises UsageError for one that ends with no number."""
    head, number = re.fullmatch(r"(.*?)(\d*)", version, re.DOTALL).groups()  # type: ignore[union-attr]
    if not number:
        raise UsageError(f"the store's version is {version!r}, after which none follows by itself: name a --version")
    return f"{head}{int(number) + 1}"


def _summary(weights: Path) -> dict[str, Any] | None:
    """What training wrote beside the weights, if it did."""
    path = weights.with_name(TRAINING_SUMMARY)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): remove it, or train again") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no JSON object: remove it, or train again")
    return content


def _move_in(staging: Path, model_store: Path, names: list[str]) -> None:
    """Rename each file to its place, in order, after all of them have reached the disk."""
    for name in names:
        with (staging / name).open("rb") as file:
            os.fsync(file.fileno())
    for name in names:
        target = model_store / name
        target.parent.mkdir(exist_ok=True)
        (staging / name).replace(target)
