"""Where a model errs on the test images, as one HTML page: which classes and images, how surely, which labels."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.data.splits import Split
from training.comparison import mcnemar
from training.html import gallery, page, table

COVERAGES: Final = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
"""Shares of the images, the most confident first, of which the accuracy is said."""
CELLS: Final = 20
"""Confusions that are shown with their images, the most frequent first."""
SHOWN: Final = 40
"""Images of a section, or of a cell."""

Probabilities = NDArray[np.float32]


def errors_page(test: Split, models: Mapping[str, Probabilities], classes: Sequence[str]) -> str:
    """The page of the first of `models`, and of its differences from a second one, if there is one.

    Each has probabilities, float32 [n, classes], of the test images, by its name.
    """
    name, probabilities = next(iter(models.items()))
    images, labels = test
    predicted, true = probabilities.argmax(axis=1), probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(predicted != labels)
    surest_wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    suspects = suspected_labels(probabilities, labels)
    second = np.argsort(-probabilities, axis=1)[:, 1]
    top_two = float(((predicted == labels) | (second == labels)).mean())
    blocks = [
        f"<p>{1 - len(wrong) / len(labels):.2%} of {len(labels):,} test images are named correctly; of {top_two:.2%} "
        "the label is among the two likeliest classes.</p>",
        "<h2>Coverage and accuracy</h2><p>Answering only the most confident share of the images.</p>"
        + table(
            ("answered", "least confidence", "accuracy"),
            [
                (f"{share:.0%}", f"{least:.1%}", f"{value:.2%}")
                for share, least, value in coverage(probabilities, labels)
            ],
        ),
        "<h2>Confusions</h2>" + _confusions(test, probabilities, classes),
        "<h2>Hardest</h2><p>The label has the least probability.</p>"
        + gallery(np.argsort(true, kind="stable")[:SHOWN], images, labels, probabilities, classes),
        "<h2>Most confidently wrong</h2>" + gallery(surest_wrong[:SHOWN], images, labels, probabilities, classes),
        f"<h2>Suspected label errors</h2><p>{len(suspects)} images to which the model gives a class other than the "
        "label with at least the confidence that it has on average in images of that class (confident learning, "
        '<a href="https://arxiv.org/abs/1911.00068">Northcutt et al. 2021</a>), the most confident first.</p>'
        + gallery(suspects[:SHOWN], images, labels, probabilities, classes),
    ]
    if len(models) > 1:
        blocks.append(_differences(test, models, classes))
    return page(f"Errors of {name}", blocks)


def coverage(probabilities: Probabilities, labels: NDArray[np.uint8]) -> list[tuple[float, float, float]]:
    """For each of COVERAGES: itself, the least confidence among so many of the most confident, and their accuracy."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    right, confidence = (probabilities.argmax(axis=1) == labels)[order], probabilities.max(axis=1)[order]
    counts = [max(1, round(share * len(labels))) for share in COVERAGES]
    return [
        (share, float(confidence[count - 1]), float(right[:count].mean()))
        for share, count in zip(COVERAGES, counts, strict=True)
    ]


def suspected_labels(probabilities: Probabilities, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Places of images whose label may be wrong, the most confident answer first: confident learning's off-diagonal.

    A class is believed of an image where its probability is at least its mean over the images that have its label; an
    image is suspected where the likeliest believed class is another than its label.
    """
    classes = probabilities.shape[1]
    thresholds = np.array([probabilities[labels == index, index].mean() if (labels == index).any() else np.inf
                           for index in range(classes)])  # fmt: skip
    believed = np.where(probabilities >= thresholds, probabilities, 0)
    suspects = np.flatnonzero((believed.max(axis=1) > 0) & (believed.argmax(axis=1) != labels))
    return suspects[np.argsort(-believed[suspects].max(axis=1), kind="stable")]


def _confusions(test: Split, probabilities: Probabilities, classes: Sequence[str]) -> str:
    images, labels = test
    predicted = probabilities.argmax(axis=1)
    cells = [
        (label, answer, np.flatnonzero((labels == label) & (predicted == answer)))
        for label in range(len(classes))
        for answer in range(len(classes))
        if label != answer
    ]
    cells.sort(key=lambda cell: -len(cell[2]))
    return "".join(
        f"<h3>{escape(classes[label])} taken for {escape(classes[answer])}: {len(places)}</h3>"
        + gallery(places[:SHOWN], images, labels, probabilities, classes, small=True)
        for label, answer, places in cells[:CELLS]
        if len(places)
    )


def _differences(test: Split, models: Mapping[str, Probabilities], classes: Sequence[str]) -> str:
    images, labels = test
    (one, first), (other, second) = list(models.items())[:2]
    right = [each.argmax(axis=1) == labels for each in (first, second)]
    only = [np.flatnonzero(right[0] & ~right[1]), np.flatnonzero(~right[0] & right[1])]
    chance = mcnemar(len(only[0]), len(only[1]))
    blocks = [
        f"<h2>Differences from {escape(other)}</h2><p>{len(only[0])} images are named correctly only by {escape(one)}, "
        f"{len(only[1])} only by {escape(other)}: p = {chance:.2g} that two equally good models differ so (McNemar's "
        "exact test).</p>"
    ]
    for name, places, probabilities in ((one, only[0], second), (other, only[1], first)):
        blocks.append(f"<h3>Correct only by {escape(name)}; the figures are the other's</h3>")
        blocks.append(gallery(places[:SHOWN], images, labels, probabilities, classes))
    return "".join(blocks)
