"""What one request may cost at most, and what is left of it while it is decoded."""

from math import ceil, inf
from typing import Final, NamedTuple

from fashion_mnist.errors import BodyTooLarge, CorruptImage, TooManyImages, TooManyPixels
from fashion_mnist.preparation import DEFAULT_MODE, PREPARES_ALL, Mode, check_mode
from fashion_mnist.preparation.steps import Steps
from fashion_mnist.settings import Settings
from fashion_mnist.task import Geometry

QUICK_PIXELS: Final = 64 * 1024
"""Images that cost no more together take hardly longer to decode than the way to a thread and back."""


PREPARATION_COST: Final = 2**19
"""What preparing a picture costs at most, in pixels that would be decoded in the same time: some 4 ms."""

MAX_PREPARED: Final = 1024
"""Pictures of one request that may be prepared."""


class TooSlow(Exception):
    """An allowance does not pay for this: it is to be decoded where nobody else waits. Nothing has been spent."""

    def __init__(self, cost: float) -> None:
        """`cost` is what it takes, in pixels, as far as that is known."""
        super().__init__(cost)
        self.cost = cost


class Limits(NamedTuple):
    """The most that one request may ask for. The values' home is `fashion_mnist.settings`."""

    max_body_bytes: int
    max_pixels: int
    max_images: int

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        """The limits among the settings."""
        return cls(settings.max_body_bytes, settings.max_pixels, settings.max_images)

    def check_body(self, length: int) -> None:
        """Raise BodyTooLarge where a body of so many bytes is longer than the limit."""
        if length > self.max_body_bytes:
            raise BodyTooLarge(
                f"the body has {length:,} bytes, or more, and the limit is {self.max_body_bytes:,}: "
                "send fewer images at once"
            )


class Budget:
    """What one request may still cost, however many files within files it consists of, and what its images become.

    The pixels of all its image files and the bytes of all its gzip streams are counted together: a thousand small
    bombs are one big one.
    """

    __slots__ = ("allowance", "geometry", "limits", "pixels", "prepare", "prepared", "spent", "steps", "unpacked_bytes")

    def __init__(
        self, limits: Limits, geometry: Geometry, allowance: float = inf, prepare: Mode = DEFAULT_MODE
    ) -> None:
        """`geometry` is that of the network's images, `prepare` says how pictures become such.

        What costs more pixels than the allowance raises TooSlow. Raises BadParameter for a way of preparing that the
        network's images rule out.
        """
        check_mode(prepare, geometry)
        self.limits = limits
        self.geometry = geometry
        self.prepare = prepare
        self.prepared = 0
        self.pixels = limits.max_pixels
        self.allowance = allowance
        self.spent = 0.0
        self.unpacked_bytes = limits.max_body_bytes
        self.steps: Steps | None = None
        """Keeps a picture of each step of preparation, where somebody wants to see them."""

    def take_pixels(self, width: int, height: int, weight: float = 1) -> None:
        """Pay for an image of this size before it is decoded; each of its pixels counts `weight`.

        Raises TooManyPixels, CorruptImage, TooSlow.
        """
        if width < 1 or height < 1:
            raise CorruptImage(f"the image is {width} x {height} pixels by its header: send the original file")
        cost = ceil(width * height * weight)
        if cost > self.pixels:
            counted = "" if weight == 1 else f", of which each counts {weight:g} here,"
            raise TooManyPixels(
                f"the image has {width} x {height} pixels{counted} and one request may have "
                f"{self.limits.max_pixels:,}, all its images together (the setting max_pixels): scale it down first"
            )
        # What preparing it will cost is known by now, and shall not be found out when it is decoded.
        self.allow(cost + (PREPARATION_COST if self._prepares(width, height) else 0))
        self.pixels -= cost
        self._spend(cost)

    def allow(self, cost: float) -> None:
        """Raise TooSlow where the allowance does not pay for so many pixels, or for what takes as long."""
        if cost > self.allowance:
            raise TooSlow(self.spent + cost)

    def take_preparation(self, pictures: int = 1) -> None:
        """Pay for preparing so many pictures, before that is done. Raises TooManyImages, TooSlow."""
        self.prepared += pictures
        if self.prepared > MAX_PREPARED:
            raise TooManyImages(
                f"more than {MAX_PREPARED:,} images to prepare in one request: split it, or send prepare=none"
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
        """Whether others wait for what is done."""
        return self.allowance <= QUICK_PIXELS

    def check_images(self, images: int) -> None:
        """Raise TooManyImages where a request holds more images than the limit."""
        if images > self.limits.max_images:
            raise TooManyImages(f"more than {self.limits.max_images:,} images in one request: split it")
