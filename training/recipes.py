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
    """A teacher's: `training.residual` in place of the network, computed in bfloat16."""
    erase: float = 0.0
    """Chance that a rectangle of an image, a third of its side or less, is filled with one gray."""
    gamma: float = 1.0
    """Power of the pixels, as shares of white, before they are normalised: below 1 dark ones lie further apart."""
    affine: float = 0.0
    """Share of images that are rotated, scaled and sheared by a little (`training.perturb.SMALL`)."""
    corrupt: float = 0.0
    """Share of images that are blurred, veiled, noisy, of less contrast or much moved (`training.perturb.corrupt`)."""
    teachers: list[str] = dataclasses.field(default_factory=list)
    """Runs, as RECIPE-SEED, whose networks' mean log-probabilities are distilled into the network."""
    views: int = 0
    """How many affine versions of the training images the teachers see. Their log-probabilities are computed once, and
    the epochs take the versions in turn. What is corrupted is so only for the network that learns."""
    temperature: float = 1.0
    """At which the teachers' probabilities and the network's own are compared."""
    label_weight: float = 0.0
    """Share of the loss that is the cross-entropy to the labels, beside that to the teachers."""


COURSE: Final = Recipe(name="course", epochs=10, batch_size=100, optimizer="adam", learning_rate=0.01)
"""The course's: Adam at 0.01, batches of 100, ten epochs, no augmentation."""

QUICK: Final = Recipe(
    name="quick",
    epochs=3,
    batch_size=512,
    optimizer="muon",
    learning_rate=3e-3,
    muon_learning_rate=0.03,
    weight_decay=0.05,
    flip=0.5,
    ema_decay=0.99,
)
"""More accurate than `course`, in ten seconds with the start of the process; twelve epochs reach 90.8 %."""

SUPERVISED: Final = Recipe(
    name="supervised",
    epochs=80,
    batch_size=512,
    optimizer="muon",
    learning_rate=3e-3,
    muon_learning_rate=0.03,
    weight_decay=0.05,
    flip=0.5,
    shift=1,
    ema_decay=0.999,
    gamma=0.5,
    affine=0.5,
)
"""The best without a teacher."""

TEACHER: Final = dataclasses.replace(
    SUPERVISED,
    name="teacher",
    epochs=10,
    batch_size=250,
    muon_learning_rate=0.02,
    warm_up=0.15,
    erase=0.5,
    ema_decay=0.998,
    residual=True,
)
"""The largest of the teachers."""

RELEASE: Final = dataclasses.replace(
    SUPERVISED,
    name="release",
    epochs=220,
    warm_up=0.15,
    flip=0.1,
    shift=0,
    corrupt=0.15,
    teachers=["teacher-0", *(f"supervised-{seed}" for seed in range(3))],
    views=4,
    temperature=2.0,
    label_weight=0.15,
)
"""The released model's: distilled from the others, for long, and from images of which some are corrupted."""

LEAST_STEPS: Final = 40
_SMALLEST_BATCH: Final = 16

RECIPES: Final = {recipe.name: recipe for recipe in (COURSE, QUICK, SUPERVISED, TEACHER, RELEASE)}


def for_other_data(recipe: Recipe, train_images: int) -> Recipe:
    """A recipe for data other than Fashion-MNIST, of so many images to train on.

    No image is mirrored, because a mirrored digit is none; and batches are so small that an epoch has LEAST_STEPS.
    """
    smaller = max(_SMALLEST_BATCH, train_images // LEAST_STEPS)
    return dataclasses.replace(recipe, flip=0.0, batch_size=min(recipe.batch_size, smaller))


def recipe_named(name: str, **changes: int | None) -> Recipe:
    """A recipe by name, with those `changes` that are not None. Raises UsageError for an unknown name."""
    if name not in RECIPES:
        raise UsageError(f"recipe is {name!r}: choose one of {', '.join(RECIPES)}")
    kept = {field: value for field, value in changes.items() if value is not None}
    return dataclasses.replace(RECIPES[name], **kept)  # type: ignore[arg-type]
