"""PNG: plain files, which another library decodes faster, and checks that Pillow omits."""

import struct
import zlib
from typing import Final, NamedTuple

from kornia_rs.io import decode_image_png_u8
from PIL import PngImagePlugin

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import CorruptImage
from fashion_mnist.task import Geometry

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_MAX_CHUNKS: Final = 10_000
_PIECE: Final = 2**16
"""Bytes that are inflated at once; small, because zlib copies the unconsumed rest each time."""

_NEEDED: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_HEADER: Final = struct.Struct(">IIBBxxB")
_COLORS: Final = {1: 0, 3: 2}
"""The header's colour type of grayscale and of red, green and blue, by channels."""
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


class Chunks(NamedTuple):
    """A PNG with verified checksums."""

    content: bytes
    """The file without chunks that the image does not need."""
    frames: int
    """The number of frames of an animation, else 1."""
    header: bytes
    pixels: list[memoryview]
    """The parts of its zlib stream."""


def plain_start(geometry: Geometry) -> bytes:
    """A PNG up to its header's end: 8 bits per channel, not interlaced, of this size and number of channels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", geometry.width, geometry.height, 8, _COLORS[geometry.channels], 0, 0, 0)
    return SIGNATURE + struct.pack(">I", 13) + header + zlib.crc32(header).to_bytes(4, "big")


def decode_plain(content: bytes, geometry: Geometry, start: bytes) -> Pixels | None:
    """A PNG of the network's size and channels as most encoders write it, uint8 [channels, height, width].

    None for any other, or a damaged one.

    It must consist of `start`, one IDAT and the end. kornia-rs takes a tenth of Pillow's time and verifies checksums.
    """
    around = len(start) + 8 + 4 + len(_END)
    if len(content) <= around or not content.startswith(start) or not content.endswith(_END):
        return None
    if content[len(start) : len(start) + 8] != struct.pack(">I4s", len(content) - around, b"IDAT"):
        return None
    try:
        if geometry.channels == 1:
            gray: Pixels = decode_image_png_u8(content, (geometry.height, geometry.width), "mono")[None, :, :, 0]
            return gray
        color: Pixels = decode_image_png_u8(content, (geometry.height, geometry.width), "rgb").transpose(2, 0, 1)
        return color
    except Exception:  # it has no exception class for damaged files
        return None


def check(content: bytes, read: PngImagePlugin.ChunkStream) -> Chunks:
    """Verify every checksum, and omit texts and profiles, each of which Pillow would decompress to a megabyte.

    `read` reads the content. Raises CorruptImage.
    """
    view = memoryview(content)
    needed, pixels = [view[: len(SIGNATURE)]], list[memoryview]()
    frames, header = 1, b""
    assert read.fp is not None
    read.fp.seek(len(SIGNATURE))
    for chunks in range(1, _MAX_CHUNKS + 2):
        if chunks > _MAX_CHUNKS:
            raise CorruptImage(f"the PNG has more than {_MAX_CHUNKS:,} chunks: save it again")
        kind, start, length = read.read()
        end = start + length + 4
        if end > len(content):
            raise CorruptImage("the PNG is truncated: send the whole file")
        data = view[start : start + length]
        if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(view[end - 4 : end], "big"):
            raise CorruptImage("the PNG was altered, one of its checksums is wrong: send the original file")
        read.fp.seek(end)
        if kind == b"IHDR":
            header = bytes(data)
        elif kind == b"IDAT":
            pixels.append(data)
        elif kind == b"acTL":
            frames = int.from_bytes(data[:4], "big")
        if kind in _NEEDED:
            needed.append(view[start - 8 : end])
        if kind == b"IEND":
            break
    if len(needed) <= chunks:
        content = b"".join(needed)
    return Chunks(content, frames, header, pixels)


def check_whole(chunks: Chunks) -> None:
    """Raise CorruptImage if the zlib stream ends before the last row: Pillow leaves missing rows black."""
    width, height, depth, color, interlaced = _HEADER.unpack(chunks.header)
    bits = depth * _CHANNELS[color]
    # Source: the PNG specification, third edition, 8.1: the starts and steps of the seven passes.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    expected = 0
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        expected += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    inflater = zlib.decompressobj()
    try:
        for part in chunks.pixels:
            for start in range(0, len(part), _PIECE):
                piece: memoryview | bytes = part[start : start + _PIECE]
                while piece and expected > 0:
                    expected -= len(inflater.decompress(piece, min(expected, 2**20)))
                    piece = inflater.unconsumed_tail
    except zlib.error:
        expected = 1
    if expected > 0:
        raise CorruptImage("the PNG's pixels are incomplete: send the original file")
