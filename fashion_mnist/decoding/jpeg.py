"""What is particular to JPEG: what it costs, whether it is whole, and the small ones, decoded by another library.

Sizes are always those of the library that decodes. What Pillow found in the header is only compared with the file's
bytes, and nothing rests on that but the cost, of which libjpeg's own bound on memory (JPEGMEM) is the last resort.
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
"""What a pixel counts of a JPEG that is decoded at a fraction of its size as its bytes come: of the others, 1."""

MOST_SCANS: Final = 12
"""Scans of a JPEG at the limit of pixels, which has one, or ten if progressive; a smaller one may have more."""

os.environ.setdefault("JPEGMEM", "320M")
"""What libjpeg may take for the coefficients of one that is not decoded as its bytes come: 300 MB for 50 megapixels."""

_SEQUENTIAL: Final = frozenset((0xC0, 0xC1))
_PROGRESSIVE: Final = frozenset((0xC2, 0xCA))
_LOSSLESS: Final = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF))
_EXIF: Final = b"Exif\0\0"
_SMALL_BYTES: Final = 4096


_PIECE: Final = 2**20


class Markers(NamedTuple):
    """Where bytes stand in a file that are the markers of a scan's beginning and of the image's end.

    Coded data never hold them; thumbnails and what cameras append may.
    """

    scans: NDArray[np.int64]
    ends: NDArray[np.int64]


def markers(content: bytes) -> Markers:
    """Find them. NumPy takes a fifth of the time that a search takes, in pieces that need little memory."""
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
    """How the pixels of a JPEG are coded."""

    streams: bool
    """Whether they are decoded as their bytes come, so that only what is needed of them is ever in memory."""
    scales: bool
    """Whether they can be decoded at a fraction of their size."""
    several_scans: bool
    """Whether one scan alone is not all of it."""


def decode_small(content: bytes, geometry: Geometry) -> Pixels | None:
    """A grayscale JPEG of the network's size, uint8 [1, height, width]; None where it is another, or damaged.

    Also where it has EXIF data, and where the network takes colour, which Pillow decodes.

    libjpeg-turbo without Pillow around it takes a fourth of the time, and takes its warnings for errors.
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
    except Exception:  # it has no class of its own for damage
        return None
    return image


def frame(image: JpegImagePlugin.JpegImageFile, content: bytes, header_end: int) -> Frame:
    """How the pixels are coded, by the marker in front of the frame header that Pillow read.

    Every place counts where these bytes stand: one that shows Pillow a cheap frame cannot have a dear one behind it.
    """
    components = b"".join(bytes((each[0], each[1] << 4 | each[2], each[3])) for each in image.layer)
    width, height = image.size
    header = struct.pack(">HBHHB", 8 + len(components), 8, height, width, image.layers) + components
    markers = set()
    place = content.find(header, 2, header_end)
    while place >= 0:
        markers.add(content[place - 1])
        place = content.find(header, place + 1, header_end)
    # One scan has all components, or the coefficients of all pixels wait for the last scan.
    scan = struct.pack(">BBHB", 0xFF, 0xDA, 6 + 2 * image.layers, image.layers)
    start = header_end - len(scan) - 2 * image.layers - 3
    whole = content[start : start + len(scan)] == scan
    return Frame(
        streams=bool(markers) and markers <= _SEQUENTIAL and whole,
        scales=not markers & _LOSSLESS,
        several_scans=bool(markers & _PROGRESSIVE) or not whole,
    )


def pay(image: Image.Image, markers: Markers, header_end: int, frame: Frame, budget: Budget) -> None:
    """Pay for a JPEG before it is decoded. Raises CorruptImage, TooManyPixels, TooSlow."""
    width, height = image.size
    scans = len(markers.scans)
    if width * height * scans > MOST_SCANS * max(budget.limits.max_pixels, 2**20):
        raise TooManyPixels(f"the JPEG has {width} x {height} pixels and up to {scans:,} scans of them: save it anew")
    budget.allow(width * height * scans * BASELINE_WEIGHT)
    if frame.several_scans and not (markers.scans >= header_end).any():
        raise CorruptImage("the JPEG is cut short, it lacks its later scans: send the whole file")
    budget.take_pixels(width, height, BASELINE_WEIGHT if frame.streams else 1)


def end(markers: Markers, header_end: int) -> int:
    """Where the pixels end. Raises CorruptImage."""
    found = markers.ends[markers.ends >= header_end]
    if not len(found):
        raise CorruptImage("the JPEG is cut short: send the whole file")
    return int(found[0])
