"""How accurate a model is on photographs, by kind and by mode of preparation."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.data.splits import Split
from fashion_mnist.ood import unknown_scores
from fashion_mnist.preparation import Mode, prepare
from fashion_mnist.preparation.fitting import bounds, fit
from fashion_mnist.task import FASHION_MNIST
from training.photographs import CASES, KEPT_ASIDE, KINDS, Pixels, cut_out, photograph, read
from training.robustness import Model

MODES: Final[tuple[Mode, ...]] = ("none", "auto", "paper")
ENLARGED: Final = 280

_VISIBLE: Final = 4
"""Levels above black that are a garment's outline."""

GROUPS: Final = {"kinds": KINDS, "kept aside": KEPT_ASIDE, "not made for": CASES}

FILES: Final = (
    "images, 28 x 28",
    "negatives, 28 x 28",
    f"images, {ENLARGED} x {ENLARGED}",
    f"negatives, {ENLARGED} x {ENLARGED}",
)

ROWS: Final = sum(map(len, GROUPS.values())) + len(FILES)
"""How many `evaluate` gives."""


def evaluate(model: Model, split: Split, threshold: float, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of photographs of the first `count` images of a split; seeds follow from `seed`.

    `accuracies` and `unknown` (the share above `threshold`) are by mode. `ceiling` is the accuracy on the same
    garments, as large and as much rotated, cut out without a fault. Where there is no garment, only `unknown` counts.
    The last rows are of the images themselves, as files.
    """
    images, labels = split.images[:count, 0], split.labels[:count]
    for group, kinds in GROUPS.items():
        for kind in kinds:
            pictures: Sequence[Pixels] = [
                read(photograph([image, images[place - 1]], kind, seed + place)) for place, image in enumerate(images)
            ]
            row = _row(model, group, kind, pictures, labels, threshold, MODES)
            if kind.startswith("none"):
                row["accuracies"] = {}
            if group != "not made for":
                found = [_trimmed(cut_out(image, kind, seed + place)) for place, image in enumerate(images)]
                row["ceiling"] = _figures(model, found, labels, threshold)[0]
            yield row
    enlarged = [_enlarged(image) for image in images]
    files: tuple[Sequence[Pixels], ...] = (
        list(images),
        list(255 - images),
        enlarged,
        [255 - image for image in enlarged],
    )
    for kind, pictures in zip(FILES, files, strict=True):
        yield _row(model, "files", kind, pictures, labels, threshold, get_args(Mode))


def _row(
    model: Model,
    group: str,
    kind: str,
    pictures: Sequence[Pixels],
    labels: NDArray[np.uint8],
    threshold: float,
    modes: tuple[Mode, ...],
) -> dict[str, Any]:
    figures = {}
    for mode in modes:
        prepared = [prepare(picture, None, FASHION_MNIST, mode)[0] for picture in pictures]
        figures[mode] = _figures(model, prepared, labels, threshold)
    return {
        "group": group,
        "kind": kind,
        "images": len(pictures),
        "accuracies": {mode: accuracy for mode, (accuracy, _) in figures.items()},
        "unknown": {mode: unknown for mode, (_, unknown) in figures.items()},
    }


def _figures(
    model: Model, images: Sequence[Pixels], labels: NDArray[np.uint8], threshold: float
) -> tuple[float, float]:
    probabilities = model(np.stack(images))
    unknown = np.array(unknown_scores(probabilities)) > threshold
    return float((probabilities.argmax(axis=1) == labels).mean()), float(unknown.mean())


def _trimmed(image: Pixels) -> Pixels:
    box = bounds(image > _VISIBLE)
    return fit(image[box.top : box.bottom, box.left : box.right] if box else image, GEOMETRY)[None]


def _enlarged(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC))
