"""Encoded images, PNG, JPEG, WebP and BMP: checked, decoded, turned to grey and fitted to uint8 [28, 28].

Nothing is decoded before its dimensions are known and paid for.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.errors import CorruptImage
from fashion_mnist.limits import Budget

Pixels: TypeAlias = NDArray[np.uint8]

# An image costs some 12 us to decode: OpenCV's own threads would only wait for each other, and for our workers.
cv2.setNumThreads(1)

ImageDecoder: TypeAlias = Callable[[memoryview, Budget], tuple[Pixels, list[str]]]


def image_decoder(start: bytes) -> ImageDecoder | None:
    """The decoder of a file that begins with these bytes, of which twelve suffice; None where it is no image.

    It takes the file and its request's budget and gives the image and what was adjusted. Raises CorruptImage and
    TooManyPixels.
    """
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
_PNG_NEEDED: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_HEADER: Final = struct.Struct(">IIBB")
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"

_SIZE: Final = (GEOMETRY.height, GEOMETRY.width)


def _plain_png_start() -> bytes:
    """Up to its header's end: a grey PNG of 8 bits, not interlaced, of the network's size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", GEOMETRY.width, GEOMETRY.height, 8, 0, 0, 0, 0)
    return _PNG_SIGNATURE + struct.pack(">I", 13) + header + zlib.crc32(header).to_bytes(4, "big")


_PLAIN_PNG: Final = _plain_png_start()
_PLAIN_PNG_AROUND: Final = len(_PLAIN_PNG) + 8 + 4 + len(_PNG_END)
"""The bytes of one that has nothing else in it, beside its packed pixels: their length and kind, and their checksum."""


def _decode_png(body: memoryview, budget: Budget) -> tuple[Pixels, list[str]]:
    content = bytes(body)
    if len(content) > _PLAIN_PNG_AROUND and content.startswith(_PLAIN_PNG) and content.endswith(_PNG_END):
        start = len(_PLAIN_PNG)
        if content[start : start + 8] == _PNG_CHUNK.pack(len(content) - _PLAIN_PNG_AROUND, b"IDAT"):
            # What most encoders write of such an image. Rust's decoder takes two thirds of OpenCV's time, and looks at
            # the checksums itself.
            try:
                image = decode_image_png_u8(content, _SIZE, "mono")
            except Exception:  # it has no class of its own for damage, and says less of it than we do
                pass
            else:
                budget.take_pixels(GEOMETRY.width, GEOMETRY.height)
                return image[:, :, 0], []
    return _decode_any_png(body, budget)


def _decode_any_png(body: memoryview, budget: Budget) -> tuple[Pixels, list[str]]:
    # OpenCV decodes what is left of a damaged PNG and says nothing: lengths, checksums and the end are checked here.
    position, end, kind = len(_PNG_SIGNATURE), len(body), b""
    pixel_data = chunks = 0
    needed: list[memoryview] = [body[:position]]
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
        if kind in _PNG_NEEDED:
            needed.append(body[position : checksum + 4])
        position = checksum + 4
    if not pixel_data:
        raise CorruptImage("the PNG has no pixels in it: send the original file")
    if len(needed) <= chunks:
        # Texts and profiles may be packed: libpng would unpack some MB of each, for nothing.
        body = memoryview(b"".join(needed))
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
        if not marker:
            # libjpeg reads on behind it as if nothing were there, and may find another header than a segment's end has.
            raise CorruptImage("the JPEG is damaged, a marker in it is none: send the original file")
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
    if (height, width) == _SIZE:
        return image, adjusted
    scale = min(GEOMETRY.height / height, GEOMETRY.width / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    fitted = np.zeros((GEOMETRY.height, GEOMETRY.width), np.uint8)
    top, left = (GEOMETRY.height - new_height) // 2, (GEOMETRY.width - new_width) // 2
    fitted[top : top + new_height, left : left + new_width] = resized
    return fitted, [*adjusted, f"resized from {width} x {height}"]
