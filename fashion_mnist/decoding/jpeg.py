"""JPEG: its cost, whether it is complete, and small files, which another library decodes faster.

Sizes are always those of the library that decodes. Comparing Pillow's header with the file's bytes only estimates the
cost; libjpeg's own limit of memory (JPEGMEM) is the last resort.
"""

import os
import struct
from typing import Final, NamedTuple

import numpy as np
from kornia_rs.io import ImageDecoder
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from fashion_mnist.decoding.limits import Budget
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import CorruptImage, TooManyPixels
from fashion_mnist.task import Geometry

BASELINE_WEIGHT: Final = 0.2
"""The cost of a pixel of a JPEG that is decoded in a stream at a fraction of its size; for others it is 1."""

MAX_SCANS: Final = 12
"""The maximum number of scans of a JPEG at the limit of pixels, usually one, or ten if progressive; a smaller one may
have more."""

os.environ.setdefault("JPEGMEM", "320M")
"""libjpeg's limit of memory for coefficients, if it cannot decode in a stream: they take 300 MB for 50 megapixels."""

_SEQUENTIAL: Final = frozenset((0xC0, 0xC1))
_PROGRESSIVE: Final = frozenset((0xC2, 0xCA))
_LOSSLESS: Final = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF))
_EXIF: Final = b"Exif\0\0"
_SMALL_BYTES: Final = 4096


_PIECE: Final = 2**20


class Markers(NamedTuple):
    """The offsets in a file of the markers of a scan's start and of the image's end.

    Coded data never contain them; thumbnails and data appended by cameras may.
    """

    scans: NDArray[np.int64]
    ends: NDArray[np.int64]


def markers(content: bytes) -> Markers:
    """Find the markers. NumPy takes a fifth of the time of `bytes.find`; pieces bound its memory."""
    data = np.frombuffer(content, np.uint8)
    scans, ends = [], []
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE + 1]
        places = np.flatnonzero(piece[:-1] == 0xFF) + 1
        kinds = piece[places]
        scans.append(places[kinds == 0xDA] + (start - 1))
        ends.append(places[kinds == 0xD9] + (start - 1))
    return Markers(np.concatenate(scans), np.concatenate(ends))


class Frame(NamedTuple):
    """The coding of a JPEG's pixels."""

    streams: bool
    """Whether they are decoded in a stream, so that few rows are in memory at a time."""
    scales: bool
    """Whether they can be decoded at a fraction of their size."""
    several_scans: bool
    """Whether the image consists of several scans."""


def decode_small(content: bytes, geometry: Geometry) -> Pixels | None:
    """A grayscale JPEG of the network's size, uint8 [1, height, width]; None if it is any other, or damaged.

    Also None if it has EXIF data, or if the network takes colour: Pillow decodes these.

    kornia-rs' libjpeg-turbo takes a fourth of Pillow's time, and treats warnings as errors.
    """
    channels, height, width = geometry
    if channels != 1 or len(content) > _SMALL_BYTES or _EXIF in content:
        return None
    if struct.pack(">BHHB", 8, height, width, channels) not in content:
        return None
    decoder = ImageDecoder()
    try:
        size = decoder.read_header(content)
        if (size.height, size.width) != (height, width):
            return None
        image: Pixels = decoder.decode_gray8(content)[None, :, :, 0]
    except Exception:  # it has no exception class for damaged files
        return None
    return image


def frame(image: JpegImagePlugin.JpegImageFile, content: bytes, header_end: int) -> Frame:
    """The coding of the pixels, by the marker before the frame header that Pillow read.

    All occurrences of these bytes count, so that a file cannot hide an expensive frame behind a cheap one.
    """
    components = b"".join(bytes((each[0], each[1] << 4 | each[2], each[3])) for each in image.layer)
    width, height = image.size
    header = struct.pack(">HBHHB", 8 + len(components), 8, height, width, image.layers) + components
    markers = set()
    place = content.find(header, 2, header_end)
    while place >= 0:
        markers.add(content[place - 1])
        place = content.find(header, place + 1, header_end)
    # Unless one scan has all components, all coefficients are kept in memory until the last scan.
    scan = struct.pack(">BBHB", 0xFF, 0xDA, 6 + 2 * image.layers, image.layers)
    start = header_end - len(scan) - 2 * image.layers - 3
    whole = content[start : start + len(scan)] == scan
    return Frame(
        streams=bool(markers) and markers <= _SEQUENTIAL and whole,
        scales=not markers & _LOSSLESS,
        several_scans=bool(markers & _PROGRESSIVE) or not whole,
    )


def take_cost(image: Image.Image, markers: Markers, header_end: int, frame: Frame, budget: Budget) -> None:
    """Take a JPEG's cost from the budget before it is decoded. Raises CorruptImage, TooManyPixels, TooSlow."""
    width, height = image.size
    scans = len(markers.scans)
    if width * height * scans > MAX_SCANS * max(budget.limits.max_pixels, 2**20):
        raise TooManyPixels(f"the JPEG has {width} x {height} pixels in up to {scans:,} scans: save it again")
    budget.allow(width * height * scans * BASELINE_WEIGHT)
    if frame.several_scans and not (markers.scans >= header_end).any():
        raise CorruptImage("the JPEG is truncated, its later scans are missing: send the whole file")
    budget.take_pixels(width, height, BASELINE_WEIGHT if frame.streams else 1)


def end(markers: Markers, header_end: int) -> int:
    """The offset at which the pixels end. Raises CorruptImage."""
    found = markers.ends[markers.ends >= header_end]
    if not len(found):
        raise CorruptImage("the JPEG is truncated: send the whole file")
    return int(found[0])
