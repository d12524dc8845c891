"""The limits of one request, and its remaining budget while it is decoded."""

from math import ceil, inf
from typing import Final, NamedTuple

from fashion_mnist.errors import BodyTooLarge, CorruptImage, TooManyImages, TooManyPixels
from fashion_mnist.preparation import DEFAULT_MODE, PREPARES_ALL, Mode, check_mode
from fashion_mnist.preparation.steps import Steps
from fashion_mnist.settings import Settings
from fashion_mnist.task import Task

QUICK_PIXELS: Final = 64 * 1024
"""Images up to this cost together are decoded on the event loop: handing them to a thread would take as long."""


PREPARATION_COST: Final = 2**19
"""The maximum cost of preparing a picture, in pixels that would be decoded in the same time: some 4 ms."""

MAX_PREPARED: Final = 1024
"""The maximum number of pictures of one request that are prepared."""


class TooSlow(Exception):
    """The cost exceeds the allowance: decode it in a thread. Nothing has been spent."""

    def __init__(self, cost: float) -> None:
        """`cost` is in pixels, as far as it is known."""
        super().__init__(cost)
        self.cost = cost


class Limits(NamedTuple):
    """The limits of one request, from `fashion_mnist.settings`."""

    max_body_bytes: int
    max_pixels: int
    max_images: int

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        """The limits among the settings."""
        return cls(settings.max_body_bytes, settings.max_pixels, settings.max_images)

    def check_body(self, length: int) -> None:
        """Raise BodyTooLarge if a body of this length exceeds the limit."""
        if length > self.max_body_bytes:
            raise BodyTooLarge(
                f"the body has at least {length:,} bytes and the limit is {self.max_body_bytes:,}: "
                "send fewer images at once"
            )


class Budget:
    """The remaining budget of one request, and how its images are prepared.

    The pixels of all its image files and the bytes of all its gzip streams are counted together, so that many small
    decompression bombs count like a large one.
    """

    __slots__ = (
        "allowance",
        "decompressed_bytes",
        "geometry",
        "limits",
        "pixels",
        "prepare",
        "prepared",
        "spent",
        "steps",
        "task",
    )

    def __init__(self, limits: Limits, task: Task, allowance: float = inf, prepare: Mode = DEFAULT_MODE) -> None:
        """`task` says what the network's images are, `prepare` how pictures are converted to them.

        What costs more than the allowance, in pixels, raises TooSlow. Raises BadParameter for a mode that does not suit
        the network's images.
        """
        check_mode(prepare, task)
        self.limits = limits
        self.task = task
        self.geometry = task.geometry
        self.prepare = prepare
        self.prepared = 0
        self.pixels = limits.max_pixels
        self.allowance = allowance
        self.spent = 0.0
        self.decompressed_bytes = limits.max_body_bytes
        self.steps: Steps | None = None
        """If set, keeps a picture of each step of preparation."""

    def take_pixels(self, width: int, height: int, weight: float = 1) -> None:
        """Take an image's cost from the budget before it is decoded; each of its pixels costs `weight`.

        Raises TooManyPixels, CorruptImage, TooSlow.
        """
        if width < 1 or height < 1:
            raise CorruptImage(f"the image is {width} x {height} pixels by its header: send the original file")
        cost = ceil(width * height * weight)
        if cost > self.pixels:
            counted = "" if weight == 1 else f", each of which counts as {weight:g},"
            raise TooManyPixels(
                f"the image has {width} x {height} pixels{counted} and all images of a request together may have "
                f"{self.limits.max_pixels:,} (the setting max_pixels): scale it down first"
            )
        # Include the cost of preparation, so that it is not found too high after decoding.
        self.allow(cost + (PREPARATION_COST if self._prepares(width, height) else 0))
        self.pixels -= cost
        self._spend(cost)

    def allow(self, cost: float) -> None:
        """Raise TooSlow if the cost, in pixels, exceeds the allowance."""
        if cost > self.allowance:
            raise TooSlow(self.spent + cost)

    def take_preparation(self, pictures: int = 1) -> None:
        """Take the cost of preparing pictures from the budget, beforehand. Raises TooManyImages, TooSlow."""
        self.prepared += pictures
        if self.prepared > MAX_PREPARED:
            raise TooManyImages(
                f"the request has more than {MAX_PREPARED:,} images to prepare: split it, or send prepare=none"
            )
        self.allow(pictures * PREPARATION_COST)
        self._spend(pictures * PREPARATION_COST)

    def _spend(self, cost: float) -> None:
        self.allowance -= cost
        self.spent += cost

    def _prepares(self, width: int, height: int) -> bool:
        own = (width, height) == (self.geometry.width, self.geometry.height)
        return self.prepare in PREPARES_ALL or (self.prepare == "auto" and not own)

    @property
    def quick(self) -> bool:
        """Whether decoding blocks other requests, and so must be quick."""
        return self.allowance <= QUICK_PIXELS

    def check_images(self, images: int) -> None:
        """Raise TooManyImages if a request has more images than the limit."""
        if images > self.limits.max_images:
            raise TooManyImages(f"the request has more than {self.limits.max_images:,} images: split it")
