"""Pictures: a run's curves, confusion matrix, reliability, filters, and an image on its way through the network."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.figure import Figure

from fashion_mnist.network import Classifier, Network
from fashion_mnist.system import atomic

_DPI: Final = 120


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG, atomically."""
    atomic.write_bytes(path, png(figure))


def png(figure: Figure) -> bytes:
    """A figure as a PNG."""
    content = io.BytesIO()
    figure.savefig(content, dpi=_DPI, format="png")
    return content.getvalue()


def curves(history: list[dict[str, Any]]) -> Figure:
    """Loss, accuracy and learning rate over the epochs of a run's metrics."""
    epochs = [line["epoch"] for line in history]
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    (loss, accuracy, rate) = figure.subplots(1, 3)
    loss.plot(epochs, [line["loss"] for line in history], marker=".")
    loss.set(title="training loss", xlabel="epoch")
    accuracy.plot(epochs, [line["accuracy"] for line in history], marker=".", label="training, augmented")
    accuracy.plot(epochs, [line["held_out_accuracy"] for line in history], marker=".", label="held out")
    accuracy.set(title="accuracy", xlabel="epoch")
    accuracy.legend()
    rate.plot(epochs, [line["learning_rate"] for line in history], marker=".")
    rate.set(title="learning rate", xlabel="epoch")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    return figure


def confusion_matrix(matrix: list[list[int]], classes: Sequence[str]) -> Figure:
    """A confusion matrix: a row for each true class, a column for each predicted one, images counted."""
    counts = np.array(matrix)
    side = max(8, 0.3 * len(classes))
    figure = Figure(figsize=(side, side - 1), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def reliability(calibration: dict[str, Any]) -> Figure:
    """How many answers of a confidence are right, for each bin of `fashion_mnist.evaluation.calibration`."""
    bins = [row for row in calibration["bins"] if row["images"]]
    width = calibration["bins"][0]["up_to"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    (shares, counts) = figure.subplots(1, 2)
    middles = [row["up_to"] - width / 2 for row in bins]
    shares.bar(middles, [row["accuracy"] for row in bins], width=0.94 * width, color="tab:blue", label="right")
    shares.plot([row["confidence"] for row in bins], [row["confidence"] for row in bins], "k.-", label="said")
    shares.set(
        title=f"expected calibration error {calibration['expected_error']:.4f}", xlabel="confidence", xlim=(0, 1)
    )
    shares.legend()
    counts.bar(middles, [row["images"] for row in bins], width=0.94 * width, color="tab:gray")
    counts.set(title="images", xlabel="confidence", xlim=(0, 1), yscale="log")
    return figure


def filters(network: Network, name: str) -> Figure:
    """The filters of `name`, conv1 or conv2: conv2's have a row each, in it a kernel for each input channel."""
    weights = getattr(network, name).weight.detach().numpy()
    count, channels = weights.shape[:2]
    # conv1's filters are of one kernel each: they lie beside each other rather than below.
    rows, columns = (count, channels) if channels > 1 else (1, count)
    figure = Figure(figsize=(1 + 1.1 * columns, 0.6 + 1.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
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
    return figure


def feature_maps(classifier: Classifier, image: np.ndarray) -> Figure:
    """One image, uint8 [c, h, w], on its way: the maps after each convolution and pooling, the linear layers."""
    network = classifier.network
    with torch.inference_mode():
        batch = torch.tensor(image)[None]
        maps1 = network.activation(network.conv1(classifier.normalise(batch)))
        pooled1 = network.pool(maps1)
        maps2 = network.activation(network.conv2(pooled1))
        pooled2 = network.pool(maps2)
        fc1 = network.activation(network.fc1(pooled2.flatten(1)))
        fc2 = network.activation(network.fc2(fc1))
        outputs = {
            "conv1_activation": maps1,
            "pool1": pooled1,
            "conv2_activation": maps2,
            "pool2": pooled2,
            "fc1_activation": fc1,
            "fc2_activation": fc2,
            "probabilities": classifier(batch),
        }
    return layers_and_occlusion(
        image, {name: output[0].numpy() for name, output in outputs.items()}, None, classifier.task.classes
    )


def layers_and_occlusion(
    image: np.ndarray, layers: Mapping[str, np.ndarray], occlusion: np.ndarray | None, classes: Sequence[str]
) -> Figure:
    """One image, uint8 [c, h, w], on its way: `layers`, float32, by the names of `fashion_mnist.explanation`.

    `occlusion`, float32 [rows, columns], is drawn beside the image: red is what speaks for the answer.
    """
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    rows: np.ndarray = np.array(figure.subfigures(6, 1, height_ratios=[1.3, 1, 1, 0.8, 0.35, 1.4]))
    beside = [
        [*(("image", plane) for plane in image), *(("conv1", plane) for plane in layers["conv1_activation"])],
        [("pooled", plane) for plane in layers["pool1"]],
        [("conv2", plane) for plane in layers["conv2_activation"]],
        [("pooled", plane) for plane in layers["pool2"]],
    ]
    if occlusion is not None:
        beside[0].insert(1, ("occlusion", occlusion))
    for row, shown in zip(rows, beside, strict=False):
        grid = row.subplots(1, max(12, len(shown)), squeeze=False)[0]
        for axes in grid:
            axes.axis("off")
        for axes, (name, plane) in zip(grid, shown, strict=False):
            if name == "occlusion":
                axes.imshow(plane, cmap="RdBu_r", vmin=-1, vmax=1)
            else:
                axes.imshow(plane, cmap="gray")
            axes.set_title(name, fontsize=7)
    for axes, name in zip(rows[4].subplots(1, 2), ("fc1", "fc2"), strict=True):
        axes.imshow(layers[f"{name}_activation"][None], cmap="gray", aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    axes = rows[5].subplots()
    axes.bar(range(len(classes)), layers["probabilities"])
    axes.set_xticks(range(len(classes)), classes, fontsize=7)
    axes.set(ylim=(0, 1))
    axes.set_ylabel("probability", fontsize=7)
    return figure
