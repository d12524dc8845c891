"""The task: all that depends on the data, in one value.

It is made from the data set when training, written into the model card by export, and read from there by what serves.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from fashion_mnist.errors import ModelError, UsageError

CARD_SECTION: Final = "task"
"""What the model card keeps a `Task` under."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a task may be called: the name stands in URLs and names TorchServe's archive."""

CHANNELS: Final = (1, 3)
"""Grayscale, or red, green and blue."""


SAMPLES: Final = "samples"
"""The folder of a model store that has a real image of each class."""


class Geometry(NamedTuple):
    """The shape of one image: channels, height and width in pixels."""

    channels: int
    height: int
    width: int

    @property
    def image_bytes(self) -> int:
        """Length of one raw image: one byte a pixel, channel by channel, row by row."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return " x ".join(map(str, self))


class HealthCheck(NamedTuple):
    """A real image and its label: a server that answers the one with the other is ready."""

    image: str
    """Its file in the model store, relative to it."""
    label: str


def sample_file(label: str) -> str:
    """Where a model store has its sample of a class: "T-shirt/top" -> "samples/t_shirt_top.png"."""
    return f"{SAMPLES}/{''.join(letter if letter.isalnum() else '_' for letter in label.lower())}.png"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model is asked, and of which images. Raises UsageError for values that cannot be served."""

    name: str
    """As in URLs: small letters, digits, `_` and `-`."""
    title: str
    """The data set's name, for people."""
    classes: tuple[str, ...]
    """The class names, by index."""
    geometry: Geometry
    """Of the network's images, uint8."""
    health_check: HealthCheck
    noun: str = "object"
    """What an image shows one of, in the singular: "Which of ten kinds of garment"."""
    bright_on_black: bool = False
    """Whether images show one bright object on black that fills the frame: then a photograph's background is removed
    and its contrast stretched; else a photograph is scaled and centred only."""
    resize: int | None = None
    """To how many pixels the shorter side of other images is resized, of which the middle is then cropped; None: they
    are scaled until the longer side fits, and centred on black."""

    def __post_init__(self) -> None:
        channels, height, width = self.geometry
        if not NAME.fullmatch(self.name):
            raise UsageError(f"the name is {self.name!r}: use small letters, digits, '_' and '-', such as my_model")
        if channels not in CHANNELS or min(height, width) < 1:
            raise UsageError(f"images of {self.geometry} cannot be served: channels are 1 or 3, sides at least 1")
        if len(self.classes) < 2 or not all(isinstance(name, str) and name.strip() for name in self.classes):
            raise UsageError(f"there are {len(self.classes)} class names: needed are two or more, none of them empty")
        if doubled := sorted({name for name in self.classes if self.classes.count(name) > 1}):
            raise UsageError(f"two classes are called {doubled[0]!r}: give each its own name")
        if self.health_check.label not in self.classes:
            raise UsageError(f"the health-check image's label is {self.health_check.label!r}, which is no class")
        if self.resize is not None and self.resize < max(height, width):
            raise UsageError(f"a side of {self.resize} pixels cannot be cropped to {height} x {width}: resize to more")

    def __hash__(self) -> int:
        # Of one field: classes are many, and tasks few.
        return hash(self.name)

    @property
    def image_bytes(self) -> int:
        """Length of one raw image: that of its geometry."""
        return self.geometry.image_bytes

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Self:
        """The task that a model card describes. Raises ModelError."""
        try:
            section = card[CARD_SECTION]
            return cls(
                name=str(section["name"]),
                title=str(section["title"]),
                classes=tuple(section["classes"]),
                geometry=Geometry(*(int(section["geometry"][side]) for side in Geometry._fields)),
                health_check=HealthCheck(*(str(section["health_check"][field]) for field in HealthCheck._fields)),
                noun=str(section["noun"]),
                bright_on_black=bool(section["bright_on_black"]),
                resize=None if section["resize"] is None else int(section["resize"]),
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise ModelError(
                f"the model card's {CARD_SECTION} cannot be read ({reason}): run `fashion-mnist export`"
            ) from None

    def to_card(self) -> dict[str, Any]:
        """What a model card keeps."""
        return {
            "name": self.name,
            "title": self.title,
            "classes": list(self.classes),
            "geometry": self.geometry._asdict(),
            "health_check": self.health_check._asdict(),
            "noun": self.noun,
            "bright_on_black": self.bright_on_black,
            "resize": self.resize,
        }


FASHION_MNIST: Final = Task(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    geometry=Geometry(channels=1, height=28, width=28),
    health_check=HealthCheck(sample_file("Ankle boot"), "Ankle boot"),
    noun="garment",
    bright_on_black=True,
)
"""The worked example and the default; classes as the data set's authors and torchvision spell them."""
