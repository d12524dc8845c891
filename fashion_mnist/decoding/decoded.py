"""The result of decoding: the valid and invalid images of one request."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np

from fashion_mnist.decoding.limits import Budget, TooSlow
from fashion_mnist.decoding.picture import Pixels, as_picture
from fashion_mnist.errors import CorruptImage, InputError, TooManyImages
from fashion_mnist.preparation import NOTHING_FOUND, PREPARES_ALL, prepare
from fashion_mnist.task import Geometry

log = logging.getLogger(__name__)

Bytes: TypeAlias = bytes | bytearray | memoryview
_Part = TypeVar("_Part")


@dataclass(slots=True)
class Decoded:
    """The images of one request.

    `pixels` is uint8 [n, c, h, w]: the good ones, in order. `errors` maps the place of a bad one to its error,
    and `adjusted` the place of one that was changed to what was done. Places count all of them, from 0.
    """

    pixels: Pixels
    errors: dict[int, InputError] = field(default_factory=dict)
    adjusted: dict[int, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels) + len(self.errors)

    def is_empty(self, place: int) -> bool:
        """Whether no garment was found in the image of that index, which makes its prediction `unknown`."""
        return NOTHING_FOUND in self.adjusted.get(place, ())


def nothing(geometry: Geometry) -> Decoded:
    """No images."""
    return Decoded(np.empty((0, *geometry), np.uint8))


def from_pixels(pixels: Pixels, budget: Budget) -> Decoded:
    """Images from pixels, uint8 [n, channels, height, width], prepared if the mode prepares all images.

    Raises TooManyImages, TooSlow.
    """
    budget.check_images(len(pixels))
    if budget.prepare not in PREPARES_ALL or not len(pixels):
        return Decoded(pixels)
    budget.take_preparation(len(pixels))
    prepared, adjusted = [], {}
    for place, image in enumerate(pixels):
        image, adjusted[place] = prepare(as_picture(image), None, budget.task, budget.prepare, steps=budget.steps)
        prepared.append(image)
    return Decoded(np.stack(prepared), adjusted={place: notes for place, notes in adjusted.items() if notes})


def join(parts: Iterable[_Part], decode_one: Callable[[_Part], Decoded], budget: Budget) -> Decoded:
    """Decode each part and concatenate the results; an invalid part takes one place, as an error.

    So does a part for which decoding fails unexpectedly. Raises TooManyImages past the limit, and TooSlow.
    """
    pixels: list[Pixels] = []
    errors: dict[int, InputError] = {}
    adjusted: dict[int, list[str]] = {}
    place = 0
    for part in parts:
        try:
            decoded = decode_one(part)
        except TooManyImages:
            raise  # do not decode the remaining parts
        except InputError as error:
            errors[place] = error
            place += 1
        except (TooSlow, MemoryError):
            raise
        except Exception:
            log.exception("an image could not be decoded")
            errors[place] = CorruptImage("the image cannot be decoded: save it again")
            place += 1
        else:
            pixels.append(decoded.pixels)
            errors.update({place + index: error for index, error in decoded.errors.items()})
            adjusted.update({place + index: notes for index, notes in decoded.adjusted.items()})
            place += len(decoded)
        budget.check_images(place)
    return Decoded(np.concatenate(pixels) if pixels else nothing(budget.geometry).pixels, errors, adjusted)
