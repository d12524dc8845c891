"""Decodes the bytes of a request to pixels, uint8 [n, c, h, w], with an error in place of each invalid image.

The first bytes determine the format: image files, .npy, gzip and IDX have signatures. Only for bodies without one the
content type decides: raw pixels or JSON.
"""

import zlib
from collections.abc import Sequence
from math import inf
from typing import Any, Final

import numpy as np

from fashion_mnist.decoding import json_bodies
from fashion_mnist.decoding.arrays import idx_images, npy_images
from fashion_mnist.decoding.decoded import Bytes, Decoded, from_pixels, join
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
from fashion_mnist.task import Task

KINDS: Final = "an image file (PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF), raw bytes (one per pixel), .npy, IDX or JSON"


def decode(
    body: Bytes,
    content_type: str,
    limits: Limits,
    task: Task,
    allowance: float = inf,
    prepare: Mode = DEFAULT_MODE,
) -> Decoded:
    """Decode a body with one or more images.

    `content_type` is the request's header or ""; `task` says what the network's images are, and `prepare` how
    photographs are converted to it. Raises InputError if the body as a whole is invalid, or if it is a single image
    and that is invalid; TooSlow if decoding costs more than `allowance`, in pixels.
    """
    limits.check_body(len(body))
    budget = Budget(limits, task, allowance, prepare)
    whole = content_type == _OCTET_STREAM and body and len(body) % task.image_bytes == 0
    if whole and body[0] not in _FIRST_BYTES and body[4:8] != _BOX:
        # A shortcut: `decode_part` would come to the same result by more checks.
        return decode_pixels(body, budget)
    return decode_part(body, content_type, budget)


def is_plain(body: Bytes, content_type: str) -> bool:
    """Whether a body has raw pixels, which take negligible time to decode."""
    start = bytes(body[:START_BYTES])
    if format_of(start) or start.startswith(GZIP):
        return False
    if start.startswith((NPY, IDX)):
        return True
    return _media_type(content_type) in _RAW_TYPES and not _looks_like_json(body)


def decode_many(
    bodies: Sequence[tuple[Bytes, str]],
    limits: Limits,
    task: Task,
    allowance: float = inf,
    prepare: Mode = DEFAULT_MODE,
) -> Decoded:
    """Decode several bodies, such as the fields of a form, each with its content type; invalid ones fail separately.

    Raises BodyTooLarge or TooManyImages if they exceed the limits together, and TooSlow as `decode` does.
    """
    limits.check_body(sum(len(body) for body, _ in bodies))
    budget = Budget(limits, task, allowance, prepare)
    return join(bodies, lambda part: decode_part(*part, budget), budget)


def decode_part(body: Bytes, content_type: str, budget: Budget) -> Decoded:
    """Decode a body or a part of one within its request's budget. Raises as `decode` does."""
    if not body:
        raise EmptyBody(f"the body is empty: send {KINDS}")
    start = bytes(body[:START_BYTES])
    if name := format_of(start):
        image, adjusted = decode_file(body, name, budget)
        return Decoded(image[None], adjusted={0: adjusted} if adjusted else {})
    media_type = _media_type(content_type)
    length = budget.geometry.image_bytes
    if start.startswith(NPY):
        return from_pixels(npy_images(body, budget.geometry), budget)
    if start.startswith(GZIP):
        return decode_part(_gunzip(body, budget), _OCTET_STREAM, budget)
    if start.startswith(IDX) and (len(body) % length or "idx" in media_type):
        return from_pixels(idx_images(body, budget.geometry), budget)
    if media_type.endswith("json") or (media_type in _RAW_TYPES and _looks_like_json(body)):
        return json_bodies.decode_json(body, decode_image, budget)
    if media_type not in _RAW_TYPES:
        raise UnsupportedMediaType(
            f"the body is no image file, and the content type {content_type[:80]!r} is not supported: send {KINDS}"
        )
    if len(body) % length:
        raise BadLength(
            f"the body has {len(body):,} bytes, which is neither an image file nor a multiple of {length}, the bytes "
            f"of a raw image: send {KINDS}"
        )
    return decode_pixels(body, budget)


def decode_pixels(pixels: Bytes, budget: Budget) -> Decoded:
    """Raw pixels, one byte each, channel by channel, row by row; their length must be a multiple of an image's.

    Raises TooManyImages.
    """
    geometry = budget.geometry
    count = len(pixels) // geometry.image_bytes
    return from_pixels(np.ndarray((count, *geometry), np.uint8, pixels), budget)


def decode_image(content: Bytes, budget: Budget) -> Decoded:
    """Decode exactly one image, of any format. Raises as `decode` does, and BadLength for several images."""
    decoded = decode_part(content, _OCTET_STREAM, budget)
    if len(decoded) != 1:
        raise BadLength(f"{len(decoded):,} images instead of one: send each separately")
    return decoded


def decode_instances(instances: Any, budget: Budget) -> Decoded:
    """Decode a parsed JSON list of images, pixel lists or base64; invalid ones fail separately.

    Raises BadJSON if it is no list or empty, and TooManyImages.
    """
    return json_bodies.decode_instances(instances, decode_image, budget)


def _gunzip(body: Bytes, budget: Budget) -> bytes:
    """Decompress a gzip stream within the budget."""
    budget.allow(budget.decompressed_bytes)
    decompressor = zlib.decompressobj(wbits=31)
    try:
        # Stop one byte past the limit, which is enough to refuse a bomb.
        content = decompressor.decompress(body, budget.decompressed_bytes + 1)
    except zlib.error as error:
        raise CorruptImage(f"the gzip data are damaged ({error}): send the whole file") from None
    if len(content) > budget.decompressed_bytes:
        budget.decompressed_bytes = 0
        raise BodyTooLarge(
            f"the body exceeds the limit of {budget.limits.max_body_bytes:,} bytes when decompressed: send fewer "
            "images at once"
        )
    budget.decompressed_bytes -= len(content)
    if not decompressor.eof:
        raise CorruptImage("the gzip data are truncated: send the whole file")
    if decompressor.unused_data:
        raise CorruptImage("further data follow the end of the gzip data: compress everything into one stream")
    if content.startswith(b"\x1f\x8b"):
        raise UnsupportedMediaType(f"the body is compressed twice: send {KINDS}, compressed at most once")
    return content


NPY: Final = b"\x93NUMPY"
GZIP: Final = b"\x1f\x8b\x08"
IDX: Final = b"\x00\x00\x08"
_BOX: Final = b"ftyp"
"""Follows the first four bytes of an AVIF."""
_OCTET_STREAM: Final = "application/octet-stream"
_FIRST_BYTES: Final = frozenset(b'\x89\xffRBGIM\x93\x1f[{"\xef \t\r\n')
"""The first bytes of all other formats with a signature, except IDX, and of JSON."""

_RAW_TYPES: Final = frozenset({"", _OCTET_STREAM, "binary/octet-stream", "application/x-idx"})


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _looks_like_json(body: Bytes) -> bool:
    """Whether bytes of unknown type are JSON rather than pixels: text in brackets or quotes, without a zero byte."""
    if bytes(body[:1]) not in b'[{"\xef \t\r\n':
        return False
    text = bytes(body).removeprefix(json_bodies.BYTE_ORDER_MARK).strip()
    return b"\0" not in text and text[:1] + text[-1:] in (b"[]", b"{}", b'""')
