"""Pictures: a run's curves, a confusion matrix, and the filters of the convolutions."""

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from fashion_mnist import atomic
from fashion_mnist.classes import CLASSES
from fashion_mnist.network import Network

_DPI: Final = 120


def curves(history: list[dict[str, Any]], path: Path) -> None:
    """Loss, accuracy and learning rate over the epochs of a run's metrics."""
    epochs = [line["epoch"] for line in history]
    figure, (loss, accuracy, rate) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    loss.plot(epochs, [line["loss"] for line in history], marker=".")
    loss.set(title="training loss", xlabel="epoch", ylabel="cross-entropy")
    accuracy.plot(epochs, [line["accuracy"] for line in history], marker=".", label="training, augmented")
    accuracy.plot(epochs, [line["held_out_accuracy"] for line in history], marker=".", label="held out")
    accuracy.set(title="accuracy", xlabel="epoch")
    accuracy.legend()
    rate.plot(epochs, [line["learning_rate"] for line in history], marker=".")
    rate.set(title="learning rate", xlabel="epoch")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    _save(figure, path)


def confusion_matrix(matrix: list[list[int]], path: Path) -> None:
    """A confusion matrix: a row for each true class, a column for each predicted one, images counted."""
    counts = np.array(matrix)
    figure, axes = plt.subplots(figsize=(8, 7), layout="constrained")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right")
    axes.set_yticks(range(len(CLASSES)), CLASSES)
    axes.set(xlabel="predicted", ylabel="true")
    _save(figure, path)


def filters(network: Network, folder: Path) -> list[Path]:
    """conv1's filters in one picture, and conv2's: a row for each filter, in it a kernel for each input channel."""
    written = []
    for name in ("conv1", "conv2"):
        weights = getattr(network, name).weight.detach().numpy()
        count, channels = weights.shape[:2]
        # conv1's filters are of one kernel each: they lie beside each other rather than below.
        rows, columns = (count, channels) if channels > 1 else (1, count)
        figure, grid = plt.subplots(
            rows, columns, figsize=(1 + 1.1 * columns, 0.6 + 1.1 * rows), layout="constrained", squeeze=False
        )
        limit = np.abs(weights).max()
        for number, axes in enumerate(grid.flat):
            index, channel = divmod(number, channels)
            axes.imshow(weights[index, channel], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            if channels == 1:
                axes.set_title(f"filter {index}", fontsize=8)
            elif channel == 0:
                axes.set_ylabel(f"filter {index}", fontsize=8)
            if channels > 1 and index == 0:
                axes.set_title(f"kernel {channel}", fontsize=8)
        kernel = "x".join(map(str, weights.shape[2:]))
        figure.suptitle(f"{name}: {count} filters of {channels} {kernel} kernel{'s' * (channels > 1)}", fontsize=10)
        written.append(folder / f"{name}.png")
        _save(figure, written[-1])
    return written


def _save(figure: Any, path: Path) -> None:
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")
    plt.close(figure)
