"""From the bytes of a request to pixels: uint8 [n, c, h, w], with an error in the place of each bad image.

A body is told by its first bytes: image files, .npy, gzip and IDX have signatures, and only what has none is told by
its content type: raw pixels or JSON.
"""

import zlib
from collections.abc import Sequence
from math import inf
from typing import Any, Final

import numpy as np

from fashion_mnist.decoding import json_bodies
from fashion_mnist.decoding.arrays import idx_images, npy_images
from fashion_mnist.decoding.decoded import Bytes, Decoded, from_pixels, image_bytes, join
from fashion_mnist.decoding.formats import START_BYTES, decode_file, format_of
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.errors import (
    BadLength,
    BodyTooLarge,
    CorruptImage,
    EmptyBody,
    UnsupportedMediaType,
)
from fashion_mnist.preparation import DEFAULT_MODE, Mode
from fashion_mnist.task import Geometry

KINDS: Final = "an image file (PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF), raw bytes (one a pixel), .npy, IDX or JSON"


def decode(
    body: Bytes,
    content_type: str,
    limits: Limits,
    geometry: Geometry,
    allowance: float = inf,
    prepare: Mode = DEFAULT_MODE,
) -> Decoded:
    """Decode one body that holds one image or many.

    `content_type` is the request's header or ""; `geometry` is that of the network's images, and `prepare` says how
    photographs become such. Raises InputError where the body as a whole is at fault, or where it is one image and that
    is bad; TooSlow where the `allowance`, in pixels, does not pay for it.
    """
    limits.check_body(len(body))
    budget = Budget(limits, geometry, allowance, prepare)
    whole = content_type == _OCTET_STREAM and body and len(body) % image_bytes(geometry) == 0
    if whole and body[0] not in _TELLING and body[4:8] != _BOX:
        # What `decode_part` would find in the end, by more questions than an image has microseconds.
        return decode_pixels(body, budget)
    return decode_part(body, content_type, budget)


def is_plain(body: Bytes, content_type: str) -> bool:
    """Whether a body holds pixels as they are, so that decoding it takes no time whatever its length."""
    start = bytes(body[:START_BYTES])
    if format_of(start) or start.startswith(_GZIP):
        return False
    if start.startswith((_NPY, _IDX)):
        return True
    return _media_type(content_type) in _RAW_TYPES and not _looks_like_json(body)


def decode_many(
    bodies: Sequence[tuple[Bytes, str]],
    limits: Limits,
    geometry: Geometry,
    allowance: float = inf,
    prepare: Mode = DEFAULT_MODE,
) -> Decoded:
    """Decode several bodies, such as the fields of a form, each with its content type; a bad one fails alone.

    Raises BodyTooLarge or TooManyImages where they exceed the limits together, and TooSlow as `decode` does.
    """
    limits.check_body(sum(len(body) for body, _ in bodies))
    budget = Budget(limits, geometry, allowance, prepare)
    return join(bodies, lambda part: decode_part(*part, budget), budget)


def decode_part(body: Bytes, content_type: str, budget: Budget) -> Decoded:
    """Decode a body or a part of one, at the expense of its request's budget. Raises as `decode` does."""
    if not body:
        raise EmptyBody(f"the body is empty: send {KINDS}")
    start = bytes(body[:START_BYTES])
    if name := format_of(start):
        image, adjusted = decode_file(body, name, budget)
        return Decoded(image[None], adjusted={0: adjusted} if adjusted else {})
    media_type = _media_type(content_type)
    length = image_bytes(budget.geometry)
    if start.startswith(_NPY):
        return from_pixels(npy_images(body, budget.geometry), budget)
    if start.startswith(_GZIP):
        return decode_part(_unpack(body, budget), _OCTET_STREAM, budget)
    if start.startswith(_IDX) and (len(body) % length or "idx" in media_type):
        return from_pixels(idx_images(body, budget.geometry), budget)
    if media_type.endswith("json") or (media_type in _RAW_TYPES and _looks_like_json(body)):
        return json_bodies.decode_json(body, decode_image, budget)
    if media_type not in _RAW_TYPES:
        raise UnsupportedMediaType(
            f"the bytes are no image file, and the content type {content_type[:80]!r} does not say what they are: "
            f"send {KINDS}"
        )
    if len(body) % length:
        raise BadLength(
            f"the body has {len(body):,} bytes, which is no image file and no whole number of raw images of "
            f"{length} bytes: send {KINDS}"
        )
    return decode_pixels(body, budget)


def decode_pixels(pixels: Bytes, budget: Budget) -> Decoded:
    """Pixels as they are, one byte each, channel by channel, row by row.

    Their length is known to be that of whole images. Raises TooManyImages.
    """
    geometry = budget.geometry
    count = len(pixels) // image_bytes(geometry)
    return from_pixels(np.ndarray((count, *geometry), np.uint8, pixels), budget)


def decode_image(content: Bytes, budget: Budget) -> Decoded:
    """Decode what must hold one image, of whatever kind. Raises as `decode` does, BadLength where it holds several."""
    decoded = decode_part(content, _OCTET_STREAM, budget)
    if len(decoded) != 1:
        raise BadLength(f"{len(decoded):,} images where one must be: send each by itself")
    return decoded


def decode_instances(instances: Any, budget: Budget) -> Decoded:
    """Decode a list of images as JSON has them, pixel lists or base64; a bad one fails alone.

    Raises BadJSON where it is no list, or empty; TooManyImages.
    """
    return json_bodies.decode_instances(instances, decode_image, budget)


def _unpack(body: Bytes, budget: Budget) -> bytes:
    """What a gzip stream holds, at the expense of the budget."""
    budget.allow(budget.unpacked_bytes)
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
_BOX: Final = b"ftyp"
"""What stands behind the first four bytes of an AVIF."""
_OCTET_STREAM: Final = "application/octet-stream"
_TELLING: Final = frozenset(b'\x89\xffRBGIM\x93\x1f[{"\xef \t\r\n')
"""The first bytes of all else that has a signature, IDX aside, and of JSON."""

_RAW_TYPES: Final = frozenset({"", _OCTET_STREAM, "binary/octet-stream", "application/x-idx"})


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _looks_like_json(body: Bytes) -> bool:
    """Whether bytes without a telling type are JSON rather than pixels: text in brackets, and nowhere a zero byte."""
    if bytes(body[:1]) not in b'[{"\xef \t\r\n':
        return False
    text = bytes(body).removeprefix(json_bodies.BYTE_ORDER_MARK).strip()
    return b"\0" not in text and text[:1] + text[-1:] in (b"[]", b"{}", b'""')
