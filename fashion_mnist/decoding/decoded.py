"""What decoding gives: the images of one request, the good and the bad."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np

from fashion_mnist.classes import Geometry
from fashion_mnist.decoding.limits import Budget, TooSlow
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import CorruptImage, InputError

log = logging.getLogger(__name__)

Bytes: TypeAlias = bytes | bytearray | memoryview
_Part = TypeVar("_Part")


@dataclass(slots=True)
class Decoded:
    """The images of one request, the good and the bad.

    `pixels` is uint8 [n, height, width]: the good ones, in order. `errors` maps the place of a bad one to its error,
    and `adjusted` the place of one that was changed to what was done. Places count all of them, from 0.
    """

    pixels: Pixels
    errors: dict[int, InputError] = field(default_factory=dict)
    adjusted: dict[int, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels) + len(self.errors)


def nothing(geometry: Geometry) -> Decoded:
    """No images."""
    return Decoded(np.empty((0, geometry.height, geometry.width), np.uint8))


def image_bytes(geometry: Geometry) -> int:
    """Length of one raw image: one byte a pixel."""
    return geometry.channels * geometry.height * geometry.width


def join(parts: Iterable[_Part], decode_one: Callable[[_Part], Decoded], budget: Budget) -> Decoded:
    """Decode each part and put the results behind each other; a part that is bad takes one place, as an error.

    So does one at which decoding fails without knowing why. Raises TooManyImages past the limit, and TooSlow.
    """
    pixels: list[Pixels] = []
    errors: dict[int, InputError] = {}
    adjusted: dict[int, list[str]] = {}
    place = 0
    for part in parts:
        try:
            decoded = decode_one(part)
        except InputError as error:
            errors[place] = error
            place += 1
        except (TooSlow, MemoryError):
            raise
        except Exception:
            log.exception("an image could not be decoded")
            errors[place] = CorruptImage("the image cannot be decoded: save it anew")
            place += 1
        else:
            pixels.append(decoded.pixels)
            errors.update({place + index: error for index, error in decoded.errors.items()})
            adjusted.update({place + index: notes for index, notes in decoded.adjusted.items()})
            place += len(decoded)
        budget.check_images(place)
    return Decoded(np.concatenate(pixels) if pixels else nothing(budget.geometry).pixels, errors, adjusted)
