"""The model card: what the released model is, how it was made, how well it does, and what it is not for."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

from export import explain
from export.parity import LIMIT, Parity
from fashion_mnist.data.splits import Dataset
from fashion_mnist.drift import CARD_SECTION, Reference
from fashion_mnist.model_store import CARD, EXPLAIN
from fashion_mnist.network import Classifier, Network
from fashion_mnist.system import checksums
from fashion_mnist.task import CARD_SECTION as TASK_SECTION
from fashion_mnist.task import Task

MARKDOWN: Final = "model_card.md"

PACKAGES: Final = ("torch", "onnx", "onnxscript", "numpy")


def build(
    *,
    version: str,
    classifier: Classifier,
    task: Task,
    dataset: Dataset,
    training: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any],
    parities: Sequence[Parity],
    layers: explain.LayerParity | None,
    drift: Reference,
    robustness: Mapping[str, Any] | None,
    others: Sequence[Mapping[str, Any]] | None,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """The card as JSON. `training` is what training wrote about itself; `others` the figures on images that show none
    of the classes; `files` are the models, by name.
    """
    network = classifier.network
    return {
        "name": task.name,
        "model_version": version,
        "description": f"A convolutional network that names the {task.noun} in an image of {task.geometry} pixels, as "
        f"one of the {len(task.classes)} classes of {task.title}.",
        TASK_SECTION: task.to_card(),
        "network": {
            "name": type(network).__name__,
            "activation": network.activation_name if isinstance(network, Network) else None,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "gamma": classifier.gamma.item(),
            "views": classifier.views,
            "temperature": classifier.temperature.item(),
            "input": {"name": "images", "dtype": "uint8", "shape": ["batch", *task.geometry]},
            "output": {"name": "probabilities", "dtype": "float32", "shape": ["batch", len(task.classes)]},
            "classes": list(task.classes),
        },
        "data": {
            "name": task.title,
            "train_images": len(dataset.train.images),
            "test_images": len(dataset.test.images),
            **dataset.origin,
        },
        "training": None if training is None else dict(training),
        # Fitted on the held-out images, so training alone can know it.
        "unknown": ({} if training is None else dict(training.get("unknown", {})))
        | ({} if others is None else {"images": list(others)}),
        "evaluation": dict(evaluation),
        "robustness": None if robustness is None else dict(robustness),
        "parity": {
            "reference": "the classifier in PyTorch, step by step, on the CPU",
            "limit": LIMIT,
            "engines": {
                parity.engine: {
                    "images": parity.images,
                    "labels_that_differ": parity.labels_that_differ,
                    "largest_difference": parity.largest_difference,
                }
                for parity in parities
            },
            "layers": layers
            and {
                "file": EXPLAIN,
                "limit": explain.LIMIT,
                "images": layers.images,
                "largest_difference": layers.largest_difference,
            },
        },
        CARD_SECTION: drift.to_card(),
        "files": {name: {"bytes": path.stat().st_size, "sha256": checksums.of(path)} for name, path in files.items()},
        "exported_with": {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}},
        "intended_use": "Learning, and measuring how models are trained, exported and served. The images that it knows "
        f"are such as those of {task.title}.",
        "limits": [
            f"It answers with one of its {len(task.classes)} classes, also for an image that shows none of them, "
            "and then often with a high probability; `unknown` marks many such images, not all, and a few others too.",
            "Images of other kinds are outside what it was trained on; bringing them to its size does not make them "
            "resemble its data.",
            "Some classes are often mistaken for each other; each class's figures say how often.",
            "No figure here says anything about the fairness or safety of a decision made with it; make none.",
        ],
    }


def markdown(card: Mapping[str, Any]) -> str:
    """The same card for people."""
    network, data, evaluation, parity = card["network"], card["data"], card["evaluation"], card["parity"]
    blocks = [
        f"# {card['name']} {card['model_version']}",
        card["description"],
        "Written by `fashion-mnist export`; `model_card.json` holds the same for programs.",
        "## Figures",
        f"Accuracy on the {evaluation['images']:,} images of the test set: **{evaluation['accuracy']:.2%}** "
        f"(standard error {evaluation['standard_error']:.2%}). Expected calibration error: "
        f"{evaluation['calibration']['expected_error']:.4f}, over {len(evaluation['calibration']['bins'])} bins of the "
        "likeliest class's probability.",
        _table(
            ("class", "images", "precision", "recall", "F1"),
            [
                (name, row["images"], *(f"{row[figure]:.1%}" for figure in ("precision", "recall", "f1")))
                for name, row in evaluation["classes"].items()
            ],
        ),
        "Confusion matrix: rows are true classes, columns what the model says.",
        _table(
            ("", *evaluation["classes"]),
            [
                (f"**{name}**", *row)
                for name, row in zip(evaluation["classes"], evaluation["confusion_matrix"], strict=True)
            ],
        ),
        *_robustness(card["robustness"]),
        "## Network",
        f"{network['name']}, {network['parameters']:,} parameters, pixels to the power of "
        f"{network['gamma']:.4g}, temperature {network['temperature']:.4g}, views: {network['views']}. Takes "
        f"`{network['input']['name']}`, {network['input']['dtype']} {_dimensions(network['input']['shape'])}, gives "
        f"`{network['output']['name']}`, {network['output']['dtype']} {_dimensions(network['output']['shape'])}; "
        "scaling and softmax are inside.",
        *_unknown(card["unknown"]),
        "## Data",
        *_data(data),
        "## Training",
        _table(("", ""), _flat(card["training"])) if card["training"] else "No record was found beside the weights.",
        "## Parity",
        f"Over the whole test set, against {parity['reference']}; a difference above {parity['limit']:.0e} or any "
        "other label fails the export.",
        _table(
            ("engine", "images", "labels that differ", "largest difference in probability"),
            [
                (name, f"{row['images']:,}", row["labels_that_differ"], f"{row['largest_difference']:.1e}")
                for name, row in parity["engines"].items()
            ],
        ),
        *(
            [
                f"Each layer's output in `{layers['file']}` against the network's: the largest difference is "
                f"{layers['largest_difference']:.1e}, {layers['limit']:.0e} allowed."
            ]
            if (layers := parity["layers"])
            else []
        ),
        "## Drift",
        f"Thresholds of the population stability index of {card[CARD_SECTION]['window']:,} images against the training "
        "images, which one in a thousand of such windows of test images exceeds; the bins are in the JSON.",
        _table(("figure", "threshold"), [(k, f"{v:.4f}") for k, v in card[CARD_SECTION]["thresholds"].items()]),
        "## Files",
        _table(
            ("file", "bytes", "sha256"),
            [(f"`{name}`", f"{row['bytes']:,}", f"`{row['sha256']}`") for name, row in card["files"].items()],
        ),
        "Exported with " + ", ".join(f"{name} {version}" for name, version in card["exported_with"].items()) + ".",
        "## Intended use",
        card["intended_use"],
        "## Limits",
        "\n".join(f"- {limit}" for limit in card["limits"]),
    ]
    return "\n\n".join(blocks) + "\n"


def _robustness(robustness: Mapping[str, Any] | None) -> list[str]:
    if robustness is None:
        return []
    rows = [
        (
            row["kind"],
            f"{row['accuracy']:.1%}",
            ", ".join(f"{name}: {value:.1%}" if name else f"{value:.1%}" for name, value in row["strengths"].items()),
            f"{row['calibration_error']:.3f}",
            "" if row["flagged"] is None else f"{row['flagged']:.1%}",
        )
        for row in robustness["rows"]
    ]
    means = [
        f"{group} {figures['accuracy']:.2%} (calibration error {figures['calibration_error']:.3f}; worst "
        f"{figures['worst']['kind']}, {figures['worst']['accuracy']:.1%})"
        for group, figures in robustness["groups"].items()
        if figures["kinds"] > 1
    ]
    return [
        "## Changed images",
        f"Of the first {robustness['images']:,} test images, as `fashion-mnist robustness` measures it: ImageNet-C's "
        f"corruptions in five strengths, geometry, inversion. Means over kinds: {'; '.join(means)}.",
        _table(("change", "accuracy", "by strength", "calibration error", "marked unknown"), rows),
    ]


def _data(data: Mapping[str, Any]) -> list[str]:
    images = f"{data['train_images']:,} images to train and {data['test_images']:,} to test."
    if "source" not in data:
        return [f"{data['name']}: {images}"]
    return [
        f"[{data['name']}]({data['source']}), {data['licence']} licence: {images} SHA-256 of the decompressed files:",
        _table(("file", "sha256"), [(f"`{k}`", f"`{v}`") for k, v in data["sha256_of_decompressed_files"].items()]),
    ]


def _unknown(unknown: Mapping[str, Any]) -> list[str]:
    if not unknown:
        return []
    return [
        "## Unknown images",
        f"Answers with an `unknown_score` above {unknown['threshold']:.4g} are marked `unknown`: "
        f"{unknown['held_out_share']:.0%} of the held-out training images. How many other images are, "
        "`fashion-mnist unknown` tells.",
        *(
            [
                "AUROC: the chance that an image of the kind has a higher score than a test image.",
                _table(
                    ("images", "AUROC", "marked unknown"),
                    [
                        (row["kind"], f"{row['auroc']['score']:.3f}" if row["auroc"] else "", f"{row['flagged']:.1%}")
                        for row in unknown["images"]
                    ],
                ),
            ]
            if "images" in unknown
            else []
        ),
    ]


def _dimensions(shape: Sequence[str | int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The leaves of nested mappings, named by their path: ("recipe.epochs", "10"). Long lists are left to the JSON."""
    rows: list[tuple[str, str]] = []
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and (len(value) > 10 or any(isinstance(item, list | dict) for item in value)):
            rows.append((prefix + name, f"{len(value)} values, in {CARD}"))
        elif isinstance(value, list):
            rows.append((prefix + name, ", ".join(map(_figure, value))))
        else:
            rows.append((prefix + name, _figure(value)))
    return rows


def _figure(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
