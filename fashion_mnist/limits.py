"""What one request may cost at most, and what is left of it while it is decoded."""

from typing import NamedTuple

from fashion_mnist.errors import BodyTooLarge, CorruptImage, TooManyImages, TooManyPixels
from fashion_mnist.settings import Settings


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
    """What one request may still cost, however many files within files it consists of.

    The pixels of all its encoded images and the bytes of all its gzip streams are counted together: a thousand small
    bombs are one big one.
    """

    __slots__ = ("limits", "pixels", "unpacked_bytes")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pixels = limits.max_pixels
        self.unpacked_bytes = limits.max_body_bytes

    def take_pixels(self, width: int, height: int) -> None:
        """Pay for an image of this size, before it is decoded. Raises TooManyPixels, CorruptImage."""
        if width < 1 or height < 1:
            raise CorruptImage(f"the image says that it is {width} x {height} pixels: send the original file")
        if width * height > self.pixels:
            raise TooManyPixels(
                f"the image has {width} x {height} pixels and one request may have {self.limits.max_pixels:,}, "
                "all its images together: scale it down first"
            )
        self.pixels -= width * height

    def check_images(self, images: int) -> None:
        """Raise TooManyImages where a request holds more images than the limit."""
        if images > self.limits.max_images:
            raise TooManyImages(f"more than {self.limits.max_images:,} images in one request: split it")
