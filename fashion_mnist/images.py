"""From the bytes of a request to pixels: uint8 [n, 28, 28], with an error in the place of each image that is bad.

A body is told by its first bytes: PNG, JPEG, WebP, BMP, .npy, gzip and IDX have signatures, and only what has none is
told by its content type: raw pixels (784 bytes an image) or JSON.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

import numpy as np

from fashion_mnist.arrays import idx_images, npy_images
from fashion_mnist.classes import GEOMETRY, IMAGE_BYTES
from fashion_mnist.errors import (
    BadLength,
    BodyTooLarge,
    CorruptImage,
    EmptyBody,
    InputError,
    UnsupportedMediaType,
)
from fashion_mnist.image_files import Pixels, image_decoder
from fashion_mnist.limits import Budget, Limits

Bytes: TypeAlias = bytes | bytearray | memoryview
_Part = TypeVar("_Part")

KINDS: Final = "a PNG, JPEG, WebP or BMP image, raw bytes (784 an image), .npy, IDX or JSON"


@dataclass(slots=True)
class Decoded:
    """The images of one request, the good and the bad.

    `pixels` is uint8 [n, 28, 28]: the good ones, in order. `errors` maps the place of a bad one to its error, and
    `adjusted` the place of one that was resized or turned to grey to what was done. Places count all of them, from 0.
    """

    pixels: Pixels
    errors: dict[int, InputError] = field(default_factory=dict)
    adjusted: dict[int, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels) + len(self.errors)


NOTHING: Final = Decoded(np.empty((0, GEOMETRY.height, GEOMETRY.width), np.uint8))
"""No images."""


def decode(body: Bytes, content_type: str, limits: Limits) -> Decoded:
    """Decode one body that holds one image or many.

    `content_type` is the request's header or "". Raises InputError where the body as a whole is at fault, or where it
    is one image and that is bad.
    """
    limits.check_body(len(body))
    budget = Budget(limits)
    if content_type == _OCTETS and body and len(body) % IMAGE_BYTES == 0 and body[0] not in _TELLING:
        # What `decode_part` would find in the end, by more questions than an image has microseconds.
        return decode_pixels(body, budget)
    return decode_part(body, content_type, budget)


def is_plain(body: Bytes, content_type: str) -> bool:
    """Whether a body holds pixels as they are, so that decoding it takes no time whatever its length."""
    start = bytes(body[:12])
    if image_decoder(start) or start.startswith(_GZIP):
        return False
    if start.startswith((_NPY, _IDX)):
        return True
    return _media_type(content_type) in _RAW_TYPES and not _looks_like_json(body)


def decode_many(bodies: Sequence[tuple[Bytes, str]], limits: Limits) -> Decoded:
    """Decode several bodies, such as the fields of a form, each with its content type; a bad one fails alone.

    Raises BodyTooLarge or TooManyImages where they exceed the limits together.
    """
    limits.check_body(sum(len(body) for body, _ in bodies))
    budget = Budget(limits)
    return join(bodies, lambda part: decode_part(*part, budget), budget)


def decode_part(body: Bytes, content_type: str, budget: Budget) -> Decoded:
    """Decode a body or a part of one, at the expense of its request's budget. Raises as `decode` does."""
    if not body:
        raise EmptyBody(f"the body is empty: send {KINDS}")
    start = bytes(body[:12])
    if decode_image := image_decoder(start):
        image, adjusted = decode_image(memoryview(body), budget)
        return Decoded(image[None], adjusted={0: adjusted} if adjusted else {})
    media_type = _media_type(content_type)
    if start.startswith(_NPY):
        return _counted(npy_images(body), budget)
    if start.startswith(_GZIP):
        return decode_part(_unpack(body, budget), _OCTETS, budget)
    if start.startswith(_IDX) and (len(body) % IMAGE_BYTES or "idx" in media_type):
        return _counted(idx_images(body), budget)
    if media_type.endswith("json") or (media_type in _RAW_TYPES and _looks_like_json(body)):
        # Imported here because the two modules call each other: JSON may hold encoded images.
        from fashion_mnist.json_bodies import decode_json

        return decode_json(body, budget)
    if media_type not in _RAW_TYPES:
        raise UnsupportedMediaType(
            f"the bytes are no image file, and the content type {content_type[:80]!r} does not say what they are: "
            f"send {KINDS}"
        )
    if len(body) % IMAGE_BYTES:
        raise BadLength(
            f"the body has {len(body):,} bytes, which is no image file and no whole number of raw images of "
            f"{IMAGE_BYTES} bytes: send {KINDS}"
        )
    return decode_pixels(body, budget)


def decode_pixels(pixels: Bytes, budget: Budget) -> Decoded:
    """Pixels as they are, one byte each, row by row; their length is known to be that of whole images.

    Raises TooManyImages.
    """
    count = len(pixels) // IMAGE_BYTES
    return _counted(np.ndarray((count, GEOMETRY.height, GEOMETRY.width), np.uint8, pixels), budget)


def decode_image(content: Bytes, budget: Budget) -> Decoded:
    """Decode what must hold one image, of whatever kind. Raises as `decode` does, BadLength where it holds several."""
    decoded = decode_part(content, _OCTETS, budget)
    if len(decoded) != 1:
        raise BadLength(f"{len(decoded):,} images where one must be: send each by itself")
    return decoded


def join(parts: Iterable[_Part], decode_one: Callable[[_Part], Decoded], budget: Budget) -> Decoded:
    """Decode each part and put the results behind each other; a part that is bad takes one place, as an error.

    Raises TooManyImages past the limit.
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
        else:
            pixels.append(decoded.pixels)
            errors.update({place + index: error for index, error in decoded.errors.items()})
            adjusted.update({place + index: notes for index, notes in decoded.adjusted.items()})
            place += len(decoded)
        budget.check_images(place)
    return Decoded(np.concatenate(pixels) if pixels else NOTHING.pixels, errors, adjusted)


def _counted(pixels: Pixels, budget: Budget) -> Decoded:
    budget.check_images(len(pixels))
    return Decoded(pixels)


def _unpack(body: Bytes, budget: Budget) -> bytes:
    """What a gzip stream holds, at the expense of the budget."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        # One byte past the limit is enough to know; a bomb is never unpacked further.
        content = unpacker.decompress(body, budget.unpacked_bytes + 1)
    except zlib.error as error:
        raise CorruptImage(f"the gzip data is damaged ({error}): send the whole file") from None
    if len(content) > budget.unpacked_bytes:
        budget.unpacked_bytes = 0
        raise BodyTooLarge(f"the body unpacks to more than the limit of {budget.limits.max_body_bytes:,} bytes")
    budget.unpacked_bytes -= len(content)
    if not unpacker.eof:
        raise CorruptImage("the gzip data is cut short: send the whole file")
    if unpacker.unused_data:
        raise CorruptImage("there is more behind the end of the gzip data: pack everything into one stream")
    if content.startswith(b"\x1f\x8b"):
        raise UnsupportedMediaType(f"gzip within gzip: send {KINDS}, packed once at most")
    return content


_NPY: Final = b"\x93NUMPY"
_GZIP: Final = b"\x1f\x8b\x08"
_IDX: Final = b"\x00\x00\x08"
_OCTETS: Final = "application/octet-stream"
_TELLING: Final = frozenset(b'\x89\xffRB\x93\x1f[{" \t\r\n')
"""The first bytes of all that has a signature, IDX aside, and of JSON."""

_RAW_TYPES: Final = frozenset({"", _OCTETS, "binary/octet-stream", "application/x-idx"})


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _looks_like_json(body: Bytes) -> bool:
    """Whether bytes without a telling type are JSON rather than pixels: text in brackets, and nowhere a zero byte."""
    if bytes(body[:1]) not in b'[{" \t\r\n':
        return False
    text = bytes(body).strip()
    return b"\0" not in text and text[:1] + text[-1:] in (b"[]", b"{}", b'""')
