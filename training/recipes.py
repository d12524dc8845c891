"""The recipes: what is chosen, by name. Figures and what was tried besides: EXPERIMENTS.md."""

import dataclasses
from typing import Final

from fashion_mnist.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train the network. Everything but the seed that decides what comes out."""

    name: str
    epochs: int
    batch_size: int
    optimizer: str
    """adam (constant learning rate) or adamw (one cycle: linear warm-up, then cosine to zero)."""
    learning_rate: float
    """The constant rate, or the cycle's highest."""
    weight_decay: float = 0.0
    """On weights of convolutions and linear layers; never on biases."""
    warm_up: float = 0.2
    """Share of all steps in which the rate rises."""
    label_smoothing: float = 0.0
    flip: bool = False
    """Mirror every other image, left to right."""
    shift: int = 0
    """Move images by up to so many pixels each way; black moves in."""
    ema_decay: float = 0.0
    """Decay per step of the averaged weights, which are what is kept; 0 keeps the last ones."""
    activation: str = "relu"


COURSE: Final = Recipe(name="course", epochs=10, batch_size=100, optimizer="adam", learning_rate=0.01)
"""The course's: Adam at 0.01, batches of 100, ten epochs, no augmentation."""

QUICK: Final = Recipe(
    name="quick",
    epochs=24,
    batch_size=256,
    optimizer="adamw",
    learning_rate=8e-3,
    weight_decay=0.02,
    flip=True,
    ema_decay=0.995,
)
"""90 % of the test set in less than a minute on two cores."""

RELEASE: Final = Recipe(
    name="release",
    epochs=100,
    batch_size=256,
    optimizer="adamw",
    learning_rate=6e-3,
    weight_decay=0.02,
    flip=True,
    shift=1,
    ema_decay=0.999,
)
"""The released model's."""

RECIPES: Final = {recipe.name: recipe for recipe in (COURSE, QUICK, RELEASE)}


def recipe_named(name: str, **changes: int | None) -> Recipe:
    """A recipe by name, with those `changes` that are not None. Raises UsageError for an unknown name."""
    if name not in RECIPES:
        raise UsageError(f"recipe is {name!r}: choose one of {', '.join(RECIPES)}")
    kept = {field: value for field, value in changes.items() if value is not None}
    return dataclasses.replace(RECIPES[name], **kept)  # type: ignore[arg-type]
