"""From the bytes of a request to pixels: uint8 [n, 28, 28], with an error in the place of each image that is bad.

A body is told by its first bytes: PNG, JPEG, WebP, BMP, .npy, gzip and IDX have signatures, and only what has none is
told by its content type: raw pixels (784 bytes an image) or JSON. Nothing is decoded before its dimensions are known.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_mnist.arrays import idx_images, npy_images
from fashion_mnist.classes import GEOMETRY, IMAGE_BYTES
from fashion_mnist.errors import (
    BadLength,
    BodyTooLarge,
    CorruptImage,
    EmptyBody,
    InputError,
    TooManyImages,
    TooManyPixels,
    UnsupportedMediaType,
)
from fashion_mnist.settings import Settings

Bytes: TypeAlias = bytes | bytearray | memoryview
Pixels: TypeAlias = NDArray[np.uint8]
_Part = TypeVar("_Part")

KINDS: Final = "a PNG, JPEG, WebP or BMP image, raw bytes (784 an image), .npy, IDX or JSON"

# An image costs some 12 us to decode: OpenCV's own threads would only wait for each other, and for our workers.
cv2.setNumThreads(1)


class Limits(NamedTuple):
    """The most that one request may ask for. The values' home is `fashion_mnist.settings`."""

    max_body_bytes: int
    max_pixels: int
    max_images: int

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        """The limits among the settings."""
        return cls(settings.max_body_bytes, settings.max_pixels, settings.max_images)


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
    _check_length(len(body), limits)
    return decode_part(body, content_type, Budget(limits))


def decode_many(bodies: Sequence[tuple[Bytes, str]], limits: Limits) -> Decoded:
    """Decode several bodies, such as the fields of a form, each with its content type; a bad one fails alone.

    Raises BodyTooLarge or TooManyImages where they exceed the limits together.
    """
    _check_length(sum(len(body) for body, _ in bodies), limits)
    budget = Budget(limits)
    return join(bodies, lambda part: decode_part(*part, budget), budget)


def decode_part(body: Bytes, content_type: str, budget: Budget) -> Decoded:
    """Decode a body or a part of one, at the expense of its request's budget. Raises as `decode` does."""
    if not body:
        raise EmptyBody(f"the body is empty: send {KINDS}")
    start = bytes(body[:12])
    if decode_image := _image_decoder(start):
        image, adjusted = decode_image(memoryview(body), budget)
        return Decoded(image[None], adjusted={0: adjusted} if adjusted else {})
    media_type = content_type.partition(";")[0].strip().lower()
    if start.startswith(b"\x93NUMPY"):
        return _counted(npy_images(body), budget)
    if start.startswith(b"\x1f\x8b\x08"):
        return decode_part(_unpack(body, budget), _OCTETS, budget)
    if start.startswith(b"\x00\x00\x08") and (len(body) % IMAGE_BYTES or "idx" in media_type):
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
    return _counted(np.frombuffer(body, np.uint8).reshape(-1, GEOMETRY.height, GEOMETRY.width), budget)


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


def _check_length(length: int, limits: Limits) -> None:
    if length > limits.max_body_bytes:
        raise BodyTooLarge(
            f"the body has {length:,} bytes and the limit is {limits.max_body_bytes:,}: send fewer images at once"
        )


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
    budget.unpacked_bytes = max(0, budget.unpacked_bytes - len(content))
    if not budget.unpacked_bytes:
        raise BodyTooLarge(f"the body unpacks to more than the limit of {budget.limits.max_body_bytes:,} bytes")
    if not unpacker.eof:
        raise CorruptImage("the gzip data is cut short: send the whole file")
    if content.startswith(b"\x1f\x8b"):
        raise UnsupportedMediaType(f"gzip within gzip: send {KINDS}, packed once at most")
    return content


def is_image_file(start: bytes) -> bool:
    """Whether bytes that begin so are one encoded image: PNG, JPEG, WebP or BMP. Twelve bytes suffice."""
    return _image_decoder(start) is not None


_OCTETS: Final = "application/octet-stream"
_RAW_TYPES: Final = frozenset({"", _OCTETS, "binary/octet-stream", "application/x-idx"})


def _looks_like_json(body: Bytes) -> bool:
    """Whether bytes without a telling type are JSON rather than pixels: text in brackets, and nowhere a zero byte."""
    if bytes(body[:1]) not in b'[{" \t\r\n':
        return False
    text = bytes(body).strip()
    return b"\0" not in text and text[:1] + text[-1:] in (b"[]", b"{}", b'""')


# --- encoded images -------------------------------------------------------------------------------------------------

_ImageDecoder: TypeAlias = Callable[[memoryview, Budget], tuple[Pixels, list[str]]]


def _image_decoder(start: bytes) -> _ImageDecoder | None:
    if start.startswith(_PNG_SIGNATURE):
        return _decode_png
    if start.startswith(b"\xff\xd8\xff") and start[3:4] >= b"\xc0":
        return _decode_jpeg
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _decode_webp
    # Two letters are not enough to tell a BMP from pixels: the reserved bytes behind its length are zero too.
    if start[:2] == b"BM" and start[6:10] == b"\0\0\0\0":
        return _decode_bmp
    return None


_MOST_PARTS: Final = 10_000
"""Chunks of a PNG, segments of a JPEG: a loop over millions of them would take seconds of a worker's time."""

_MOST_SCANS: Final = 100
"""Of a JPEG, which has one, or ten where it is progressive: each is a pass over all its pixels, however short it is."""

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK: Final = struct.Struct(">I4s")
_PNG_HEADER: Final = struct.Struct(">IIBB")


def _decode_png(body: memoryview, budget: Budget) -> tuple[Pixels, list[str]]:
    # OpenCV decodes what is left of a damaged PNG and says nothing: lengths, checksums and the end are checked here.
    position, end, kind = len(_PNG_SIGNATURE), len(body), b""
    pixel_data = chunks = 0
    depth = colour_type = width = height = -1
    while kind != b"IEND":
        if end - position < 12:
            raise CorruptImage("the PNG is cut short: send the whole file")
        chunks += 1
        if chunks > _MOST_PARTS:
            raise CorruptImage(f"the PNG has more than {_MOST_PARTS:,} chunks: save it anew")
        length, kind = _PNG_CHUNK.unpack_from(body, position)
        if length > end - position - 12:
            raise CorruptImage("the PNG is cut short: send the whole file")
        checksum = position + 8 + length
        if zlib.crc32(body[position + 4 : checksum]) != int.from_bytes(body[checksum : checksum + 4], "big"):
            raise CorruptImage("the PNG was altered, a checksum in it is wrong: send the original file")
        if width < 0:
            if kind != b"IHDR" or length != 13:
                raise CorruptImage("the PNG does not begin with its header: send the original file")
            width, height, depth, colour_type = _PNG_HEADER.unpack_from(body, position + 8)
            budget.take_pixels(width, height)
        elif kind == b"IDAT":
            pixel_data += length
        position = checksum + 4
    if not pixel_data:
        raise CorruptImage("the PNG has no pixels in it: send the original file")
    if colour_type == 0 and depth == 8:
        return _fitted(_imdecode(body, cv2.IMREAD_GRAYSCALE, "PNG"), [])
    return _grey(_imdecode(body, cv2.IMREAD_UNCHANGED, "PNG"))


_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE: Final = frozenset(range(0xD0, 0xD9)) | {0x01}


def _decode_jpeg(body: memoryview, budget: Budget) -> tuple[Pixels, list[str]]:
    position, components = 2, 0
    for _ in range(_MOST_PARTS):
        if position + 4 > len(body) or body[position] != 0xFF:
            raise CorruptImage("the JPEG is damaged or cut short: send the whole file")
        marker = body[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES:
            if position + 10 > len(body):
                raise CorruptImage("the JPEG is cut short: send the whole file")
            height, width, components = struct.unpack_from(">HHB", body, position + 5)
            budget.take_pixels(width, height)
        elif marker == 0xDA:
            break
        position += 2 + int.from_bytes(body[position + 2 : position + 4], "big")
    else:
        raise CorruptImage(f"the JPEG has more than {_MOST_PARTS:,} segments: save it anew")
    if not components or bytes(body[position:]).rfind(b"\xff\xd9") < 0:
        raise CorruptImage("the JPEG is cut short, its end is missing: send the whole file")
    if bytes(body[position:]).count(b"\xff\xda") > _MOST_SCANS:
        raise CorruptImage(f"the JPEG has more than {_MOST_SCANS} scans: save it anew")
    # As grey: OpenCV then also turns the picture upright, as its EXIF data says.
    image = _imdecode(body, cv2.IMREAD_GRAYSCALE, "JPEG")
    return _fitted(image, ["colour turned to grey"] if components > 1 else [])


def _decode_webp(body: memoryview, budget: Budget) -> tuple[Pixels, list[str]]:
    if len(body) < 30 or int.from_bytes(body[4:8], "little") + 8 > len(body):
        raise CorruptImage("the WebP is cut short: send the whole file")
    kind, data = bytes(body[12:16]), body[20:30]
    if kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 6))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (4, 7))
    else:
        raise CorruptImage("the WebP is damaged: send the original file")
    budget.take_pixels(width, height)
    return _grey(_imdecode(body, cv2.IMREAD_UNCHANGED, "WebP"))


def _decode_bmp(body: memoryview, budget: Budget) -> tuple[Pixels, list[str]]:
    if len(body) < 26 or int.from_bytes(body[2:6], "little") > len(body):
        raise CorruptImage("the BMP is cut short: send the whole file")
    width, height = struct.unpack_from("<ii", body, 18)
    budget.take_pixels(abs(width), abs(height))
    return _grey(_imdecode(body, cv2.IMREAD_UNCHANGED, "BMP"))


def _imdecode(body: memoryview, flags: int, kind: str) -> NDArray[Any]:
    try:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise CorruptImage(f"the {kind} cannot be decoded: send the original file, or save it anew")
    return image


def _grey(image: NDArray[Any]) -> tuple[Pixels, list[str]]:
    """Any decoded image, [h, w] or [h, w, 3 or 4] as BGR(A), uint8 or uint16, as grey of 8 bits, fitted."""
    adjusted = []
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
        adjusted.append("16 bits a channel cut to 8")
    if image.ndim == 3:
        if image.shape[2] == 4:
            alpha = image[:, :, 3:].astype(np.uint16)
            if alpha.min() < 255:
                adjusted.append("transparency laid over black")
            image = (image[:, :, :3] * alpha // 255).astype(np.uint8)
        if (image[:, :, 1:] != image[:, :, :1]).any():
            adjusted.append("colour turned to grey")
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
    return _fitted(image, adjusted)


def _fitted(image: Pixels, adjusted: list[str]) -> tuple[Pixels, list[str]]:
    """A grey image [h, w] at the network's size: scaled by its longer side and centred on black, as the data set was.

    Source: Xiao et al. 2017, arXiv:1708.07747, section 2: the longest edge is resized to 28, the rest extended.
    """
    height, width = image.shape
    if (height, width) == (GEOMETRY.height, GEOMETRY.width):
        return image, adjusted
    scale = min(GEOMETRY.height / height, GEOMETRY.width / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    fitted = np.zeros((GEOMETRY.height, GEOMETRY.width), np.uint8)
    top, left = (GEOMETRY.height - new_height) // 2, (GEOMETRY.width - new_width) // 2
    fitted[top : top + new_height, left : left + new_width] = resized
    return fitted, [*adjusted, f"resized from {width} x {height}"]
