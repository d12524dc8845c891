"""How accuracy and calibration fall on changed test images: corrupted, moved, rotated, sheared, scaled, inverted."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.data.splits import Split
from fashion_mnist.evaluation import calibration
from fashion_mnist.ood import unknown_scores
from training.warping import affine

Images = NDArray[np.uint8]
Change = Callable[[Images, float], Images]
Model = Callable[[Images], NDArray[np.float32]]
"""Takes uint8 [n, channels, height, width] and gives probabilities, float32 [n, classes]."""


def shift(images: Images, pixels: float) -> Images:
    """Each image moved by so many pixels in one of eight directions, in turn; black moves in."""
    directions = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return _warped(images, [np.array([[1.0, 0, x * pixels], [0, 1, y * pixels]]) for x, y in directions])


def rotation(images: Images, degrees: float) -> Images:
    """Each image rotated about its centre, to the left and to the right in turn."""
    angles = np.deg2rad([degrees, -degrees])
    turns = (np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) for angle in angles)
    return _warped(images, [_about_centre(turn, images) for turn in turns])


def shear(images: Images, slope: float) -> Images:
    """Each row moved by `slope` pixels for each row between it and the centre, to either side in turn."""
    return _warped(images, [_about_centre(np.array([[1, each], [0, 1]]), images) for each in (slope, -slope)])


def scale(images: Images, factor: float) -> Images:
    """Each image enlarged about its centre."""
    return _warped(images, [_about_centre(np.eye(2) * factor, images)])


def inversion(images: Images, share: float) -> Images:
    """Dark on bright: so much of the way to the negative."""
    return np.clip(np.rint((1 - share) * images + share * (255.0 - images)), 0, 255).astype(np.uint8)


CHANGES: Final[tuple[tuple[str, str, Change, tuple[float, ...], str], ...]] = (
    ("geometry", "shift", shift, (1, 2, 4), "{:g} px"),
    ("geometry", "rotation", rotation, (5, 15, 30), "{:g}°"),
    ("geometry", "shear", shear, (0.1, 0.2, 0.4), "{:g}"),
    ("geometry", "scale", scale, (0.7, 0.85, 1.15, 1.3), "x {:g}"),
    ("inversion", "inversion", inversion, (0.25, 1), "{:.0%}"),
)
"""The group of a change, its name, the function, its strengths, and how a strength is written."""


def robustness(
    model: Model, split: Split, corruptions: Mapping[str, Images], *, threshold: float | None
) -> dict[str, Any]:
    """A model's accuracy on changed images: a row for each kind of change, and the figures of each group.

    `corruptions` has uint8 [5, n, c, h, w] of the first n images by kind. A row has the accuracy at each strength and
    over all of them, the expected calibration error over all, and the share whose score is above the `threshold` of
    `fashion_mnist.ood`, where there is one. Means are over kinds, and give each the same weight.
    """
    some = len(next(iter(corruptions.values()))[0]) if corruptions else len(split.images)
    split = Split(split.images[:some], split.labels[:some])
    rows = [_row("none", "unchanged", {"": split.images}, model, split.labels, threshold)]
    for kind, images in corruptions.items():
        by_strength = {str(1 + place): each for place, each in enumerate(images)}
        rows.append(_row("corruption", kind, by_strength, model, split.labels, threshold))
    for group, name, change, strengths, form in CHANGES:
        by_strength = {form.format(strength): change(split.images, strength) for strength in strengths}
        rows.append(_row(group, name, by_strength, model, split.labels, threshold))
    return {"images": some, "rows": rows, "groups": _groups(rows)}


def _row(
    group: str,
    kind: str,
    by_strength: Mapping[str, Images],
    model: Model,
    labels: NDArray[np.uint8],
    threshold: float | None,
) -> dict[str, Any]:
    answers = {strength: model(images) for strength, images in by_strength.items()}
    accuracies = {name: round(float((each.argmax(axis=1) == labels).mean()), 4) for name, each in answers.items()}
    probabilities = np.concatenate(list(answers.values()))
    error = calibration(probabilities, np.tile(labels, len(answers)))["expected_error"]
    flagged = None if threshold is None else float((np.array(unknown_scores(probabilities)) > threshold).mean())
    return {
        "group": group,
        "kind": kind,
        "accuracy": statistics.mean(accuracies.values()),
        "calibration_error": error,
        "flagged": flagged,
        "strengths": accuracies,
    }


def _groups(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        worst = min(members, key=lambda row: float(row["accuracy"]))
        found[group] = {
            "kinds": len(members),
            "accuracy": statistics.mean(row["accuracy"] for row in members),
            "worst": {"kind": worst["kind"], "accuracy": worst["accuracy"]},
            "calibration_error": statistics.mean(row["calibration_error"] for row in members),
        }
    return found


def _about_centre(matrix: NDArray[np.float64], images: Images) -> NDArray[np.float64]:
    height, width = images.shape[2:]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([matrix, centre - matrix @ centre])


def _warped(images: Images, matrices: list[NDArray[np.float64]]) -> Images:
    warped = np.empty_like(images)
    for place, matrix in enumerate(matrices):
        some = images[place :: len(matrices)]
        values = affine(some.reshape(-1, *some.shape[2:]), matrix).reshape(some.shape)
        warped[place :: len(matrices)] = np.clip(np.rint(values), 0, 255)
    return warped
