"""How accuracy falls as test images are changed: moved, turned, blurred, faded."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.dataset import Split
from training.warping import affine, gaussian_blur

Images = NDArray[np.uint8]
Change = Callable[[Images, float], Images]
Model = Callable[[Images], NDArray[np.float32]]
"""Takes uint8 [n, 28, 28] and gives probabilities, float32 [n, 10]."""

_CENTRE: Final = ((GEOMETRY.width - 1) / 2, (GEOMETRY.height - 1) / 2)


def shift(images: Images, pixels: float) -> Images:
    """Each image moved by so many pixels in one of eight directions, in turn; black moves in."""
    directions = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return _warped(images, [np.array([[1.0, 0, x * pixels], [0, 1, y * pixels]]) for x, y in directions])


def rotation(images: Images, degrees: float) -> Images:
    """Each image turned about its centre, to the left and to the right in turn."""
    return _warped(images, [_about_centre(np.deg2rad(angle)) for angle in (degrees, -degrees)])


def noise(images: Images, deviation: float) -> Images:
    """Normal noise added to each pixel."""
    return _bytes(images + np.random.default_rng(0).normal(0, deviation, images.shape))


def blur(images: Images, deviation: float) -> Images:
    """Gaussian blur of so many pixels."""
    return _bytes(gaussian_blur(images.astype(np.float64), deviation))


def contrast(images: Images, factor: float) -> Images:
    """Pixels nearer to their image's mean."""
    means = images.mean(axis=(1, 2), keepdims=True)
    return _bytes(means + factor * (images - means))


def inversion(images: Images, share: float) -> Images:
    """Dark on bright: so much of the way to the negative."""
    return _bytes((1 - share) * images + share * (255.0 - images))


CHANGES: Final[tuple[tuple[str, Change, tuple[float, ...], str], ...]] = (
    ("shift", shift, (1, 2, 4), "{:g} px"),
    ("rotation", rotation, (5, 15, 30), "{:g}°"),
    ("noise", noise, (10, 25, 50), "sigma {:g}"),
    ("blur", blur, (0.5, 1, 1.5), "sigma {:g} px"),
    ("contrast", contrast, (0.75, 0.5, 0.25), "x {:g}"),
    ("inversion", inversion, (0.25, 1), "{:.0%}"),
)
"""What is done to images, the function, its strengths, and how a strength is written."""


def robustness(models: Mapping[str, Model], split: Split) -> list[dict[str, Any]]:
    """A row for each change and strength, with the accuracy of each model by its name; the first is of no change."""
    return [
        _row("none", "", models, split.images, split.labels),
        *(
            _row(name, form.format(strength), models, change(split.images, strength), split.labels)
            for name, change, strengths, form in CHANGES
            for strength in strengths
        ),
    ]


def _row(
    change: str,
    strength: str,
    models: Mapping[str, Model],
    images: Images,
    labels: NDArray[np.uint8],
) -> dict[str, Any]:
    found = {name: float((predict(images).argmax(axis=1) == labels).mean()) for name, predict in models.items()}
    return {"change": change, "strength": strength, "accuracies": found}


def _about_centre(angle: float) -> NDArray[np.float64]:
    """The matrix that turns by so many radians about an image's centre."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, np.array(_CENTRE) - turn @ _CENTRE])


def _warped(images: Images, matrices: list[NDArray[np.float64]]) -> Images:
    warped = np.empty_like(images)
    for place, matrix in enumerate(matrices):
        warped[place :: len(matrices)] = _bytes(affine(images[place :: len(matrices)], matrix))
    return warped


def _bytes(values: NDArray[np.float64]) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
