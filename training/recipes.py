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
    """adam (constant learning rate), adamw or muon (one cycle: linear warm-up, then cosine to zero)."""
    learning_rate: float
    """The constant rate, or the cycle's highest."""
    muon_learning_rate: float = 0.0
    """Highest rate of what Muon trains: all weights but the last layer's, which AdamW trains with the biases."""
    weight_decay: float = 0.0
    """On weights of convolutions and linear layers; never on biases."""
    warm_up: float = 0.2
    """Share of all steps in which the rate rises."""
    label_smoothing: float = 0.0
    flip: float = 0.0
    """Chance that an image is mirrored, left to right."""
    shift: int = 0
    """Move images by up to so many pixels each way; black moves in."""
    ema_decay: float = 0.0
    """Decay per step of the averaged weights, which are what is kept; 0 keeps the last ones."""
    activation: str = "relu"
    residual: bool = False
    """A teacher's: `training.residual` in place of the network."""
    erase: float = 0.0
    """Chance that a rectangle of an image, a third of its side or less, is filled with one grey."""
    teachers: list[str] = dataclasses.field(default_factory=list)
    """Runs, as RECIPE-SEED, whose networks' mean answer is imitated, in place of learning from labels."""
    views: int = 0
    """How many times all training images are moved anew. The teachers' answers to each view are computed once, and the
    epochs take the views in turn."""
    softening: float = 1.0
    """The temperature at which the teachers' answers and the network's own are compared."""


COURSE: Final = Recipe(name="course", epochs=10, batch_size=100, optimizer="adam", learning_rate=0.01)
"""The course's: Adam at 0.01, batches of 100, ten epochs, no augmentation."""

QUICK: Final = Recipe(
    name="quick",
    epochs=12,
    batch_size=512,
    optimizer="muon",
    learning_rate=3e-3,
    muon_learning_rate=0.03,
    weight_decay=0.05,
    flip=0.5,
    ema_decay=0.99,
)
"""90 % of the test set in less than a minute on two cores."""

LABELS: Final = Recipe(
    name="labels",
    epochs=80,
    batch_size=512,
    optimizer="muon",
    learning_rate=3e-3,
    muon_learning_rate=0.03,
    weight_decay=0.05,
    flip=0.5,
    shift=1,
    ema_decay=0.999,
)
"""The best without a teacher."""

TEACHER: Final = dataclasses.replace(
    LABELS,
    name="teacher",
    epochs=12,
    batch_size=250,
    muon_learning_rate=0.02,
    warm_up=0.15,
    erase=0.5,
    ema_decay=0.998,
    residual=True,
)
"""What `release` imitates."""

RELEASE: Final = dataclasses.replace(
    LABELS,
    name="release",
    epochs=160,
    teachers=["teacher-0"],
    views=4,
    softening=3.0,
)
"""The released model's: as `labels`, from a teacher in their place, and for longer: labels would be learnt by heart."""

RECIPES: Final = {recipe.name: recipe for recipe in (COURSE, QUICK, LABELS, TEACHER, RELEASE)}


def recipe_named(name: str, **changes: int | None) -> Recipe:
    """A recipe by name, with those `changes` that are not None. Raises UsageError for an unknown name."""
    if name not in RECIPES:
        raise UsageError(f"recipe is {name!r}: choose one of {', '.join(RECIPES)}")
    kept = {field: value for field, value in changes.items() if value is not None}
    return dataclasses.replace(RECIPES[name], **kept)  # type: ignore[arg-type]
