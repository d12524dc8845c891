"""The report of one run, as an HTML page that needs no other file; and the table of all runs, by recipe."""

import json
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from fashion_mnist.data.splits import Dataset
from fashion_mnist.errors import UsageError
from fashion_mnist.evaluation import evaluation
from fashion_mnist.network import Classifier, Network, NetworkClass, load_weights
from fashion_mnist.task import Task
from training import plots
from training.html import gallery, png, table
from training.html import page as html_page
from training.loop import predict

HARDEST: Final = 40
SAMPLES: Final = (0, 1, 23)
"""Test images whose feature maps are shown, by their places; of Fashion-MNIST three that differ much."""


def page(folder: Path, dataset: Dataset, network_class: NetworkClass | None = None) -> str:
    """The HTML of a finished run. Raises UsageError where the run is not finished, ModelError for damaged weights."""
    summary = read_summary(folder)
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    classifier = load_weights(folder / "weights.pt", network_class)
    (images, labels), task = dataset.test, dataset.task
    probabilities = predict(classifier, images)
    figures = evaluation(probabilities, labels, task.classes)
    classes = [
        (escape(label), row["images"], *(f"{row[key]:.1%}" for key in ("precision", "recall", "f1")))
        for label, row in figures["classes"].items()
    ]
    blocks = [
        f"<p>{figures['accuracy']:.2%} of {figures['images']:,} test images right (standard error "
        f"{figures['standard_error']:.2%}), {summary['held_out_accuracy']:.2%} of the held-out ones; "
        f"{summary['epochs']} epochs in {summary['seconds']:.0f} s; commit {escape(str(summary['commit']))}.</p>",
        "<h2>Training</h2>" + _image(plots.curves(history)),
        "<h2>Classes</h2>" + table(("class", "images", "precision", "recall", "F1"), classes),
        "<h2>Confusion matrix</h2>" + _image(plots.confusion_matrix(figures["confusion_matrix"], task.classes)),
        f"<h2>Reliability</h2><p>Temperature {summary['temperature']:.3f}, fitted on the held-out images.</p>"
        + _image(plots.reliability(figures["calibration"])),
        "<h2>Hardest test images</h2><p>Those to whose true class the network gives the least.</p>"
        + _hardest(images, labels, probabilities, task),
        *_within(classifier, images),
        "<h2>Settings</h2>" + table(("", ""), [(escape(k), escape(json.dumps(v))) for k, v in summary.items()]),
    ]
    return html_page(f"{summary['recipe']['name']}, seed {summary['seed']}", blocks)


def _within(classifier: Classifier, images: np.ndarray) -> list[str]:
    """The filters and some feature maps of the network; of another network than `Network` only that there are none."""
    network = classifier.network
    if not isinstance(network, Network):
        return [f"<p>{escape(type(network).__name__)} is a network of its own: its filters and maps are not drawn.</p>"]
    return [
        "<h2>Filters</h2>" + "".join(_image(plots.filters(network, conv)) for conv in ("conv1", "conv2")),
        "<h2>Through the network</h2>"
        + "".join(_image(plots.feature_maps(classifier, images[place])) for place in SAMPLES if place < len(images)),
    ]


def read_summary(folder: Path) -> dict[str, Any]:
    """What a finished run wrote about itself. Raises UsageError."""
    path = folder / "training_summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} holds no finished run ({error}): name the folder of one, such as runs/quick-0"
        ) from None
    return summary


def finished(folder: Path) -> list[dict[str, Any]]:
    """The summaries of all finished runs below `folder`, by recipe and seed."""
    summaries = [read_summary(path.parent) for path in folder.glob("*/training_summary.json")]
    return sorted(summaries, key=lambda summary: (summary["recipe"]["name"], summary["seed"]))


def recipe_rows(summaries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each recipe, of its runs with all their seeds. A recipe that was changed has a row of its own."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for summary in summaries:
        groups.setdefault(json.dumps([summary["recipe"], summary["train_images"]]), []).append(summary)
    return [_row(group) for group in groups.values()]


def _row(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    test, held_out = ([run[f"{split}_accuracy"] for run in group] for split in ("test", "held_out"))
    return {
        "recipe": group[0]["recipe"]["name"],
        "seeds": len(group),
        "test": _mean(test),
        "held out": _mean(held_out),
        "epochs": group[0]["epochs"],
        "seconds": f"{statistics.mean(run['seconds'] for run in group):.0f}",
        "threads": _all(run["threads"] for run in group),
        "kernels": _all(run["kernels"] for run in group),
        "machine": _all(run["machine"] for run in group),
        "commit": _all(run["commit"] for run in group),
    }


def _mean(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2%}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2%}{deviation}"


def _all(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _image(figure: Figure) -> str:
    return png(plots.png(figure))


def _hardest(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, task: Task) -> str:
    hardest = np.argsort(probabilities[np.arange(len(labels)), labels])[:HARDEST]
    return gallery(hardest, images, labels, probabilities, task.classes)
