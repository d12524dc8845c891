"""Image files: recognised by their first bytes, checked, decoded by Pillow, and fitted to the network's size.

Nothing is decoded before its cost is taken from the budget; sizes are those of the library that decodes.
"""

import functools
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any, Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from fashion_mnist.decoding import isolated, jpeg, png
from fashion_mnist.decoding.limits import Budget, TooSlow
from fashion_mnist.decoding.picture import Picture, Pixels, as_picture, to_picture
from fashion_mnist.errors import CorruptImage, FashionMNISTError, UnsupportedMediaType
from fashion_mnist.preparation import PREPARES_ALL, needs_preparation, prepare

# The budget limits each image, possibly above the size of which Pillow warns.
Image.MAX_IMAGE_PIXELS = None
# Warnings about odd metadata would let clients write to the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

START_BYTES: Final = 32
"""The number of a file's first bytes that determine its format."""

WORKING_SIDES: Final = 8
"""Large images are reduced to at least this multiple of the network's size before they are prepared."""

_ISOLATED: Final = frozenset({"TIFF", "AVIF", "HEIF"})
"""Decoded in a separate process: see `isolated`."""

_ISOLATED_COST: Final = 2**23
"""The cost of starting the process, in pixels; high, because there is no memory for several at once."""

_SLOW_COST: Final = 2**17
"""A cost above QUICK_PIXELS, for work that is slow by an unknown amount."""

_CANVAS_WEIGHT: Final = 2.5
"""The cost of a pixel of WebP, AVIF and HEIF, whose decoders hold several copies of the image."""

_RLE_WEIGHT: Final = 32
"""The cost of a pixel of a run-length-encoded BMP, which Pillow decodes in Python."""

_READS: Final = 4096
_BYTES_A_READ: Final = 32
_QUICK_READS: Final = 512
"""The maximum number of reads of a file: _READS, and one for each _BYTES_A_READ of its length; or _QUICK_READS on the
event loop."""

_MAX_TAG_BYTES: Final = 2**20
_MAX_STRIPS: Final = 10_000
_TIFF_COMPRESSIONS: Final = frozenset({"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"})
_MIN_IS_WHITE: Final = 0
_ORIENTATION: Final = 0x0112
_PHOTOMETRIC: Final = 262

_AHEAD: Final = bytes(16)
"""Read after the last byte of a JPEG: as much as the decoder looks ahead, and no more."""


def format_of(start: bytes) -> str | None:
    """Pillow's name for the format of a file that begins with these bytes, of which START_BYTES suffice.

    None if it is no image file. "HEIF" needs an optional package.
    """
    if start.startswith(png.SIGNATURE):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff") and start[3:4] >= b"\xc0":
        return "JPEG"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    # Two letters do not distinguish a BMP from pixels; the reserved bytes after its length are zero, too.
    if start[:2] == b"BM" and start[6:10] == b"\0\0\0\0":
        return "BMP"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if start.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if start[4:8] == b"ftyp":
        brands = start[8:START_BYTES]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")):
            return "HEIF"
    return None


def decode_file(body: bytes | bytearray | memoryview, name: str, budget: Budget) -> tuple[Pixels, list[str]]:
    """An image file of the format `name` as uint8 [channels, height, width] of the network's, and what was adjusted.

    Raises CorruptImage, TooManyPixels, UnsupportedMediaType, TooSlow.
    """
    content, geometry = bytes(body), budget.geometry
    small = None
    if name == "PNG":
        small = png.decode_plain(content, geometry, _plain_start(geometry))
    elif name == "JPEG":
        small = jpeg.decode_small(content, geometry)
    if small is not None:
        budget.take_pixels(geometry.width, geometry.height)
        if budget.prepare not in PREPARES_ALL:
            return small, []
        picture = Picture(as_picture(small), None, geometry.width, geometry.height)
    else:
        picture = read_picture(content, name, budget)
    if needs_preparation(picture.pixels, budget.task, budget.prepare):
        budget.take_preparation()
    whole = (picture.width, picture.height)
    pixels, done = prepare(picture.pixels, picture.alpha, budget.task, budget.prepare, whole, budget.steps)
    return pixels, [*picture.notes, *done]


def read_picture(content: bytes, name: str, budget: Budget) -> Picture:
    """An image file of the format `name` as a picture, reduced to at least WORKING_SIDES times the network's size.

    Raises as `decode_file` does.
    """
    if name in _ISOLATED:
        if name == "HEIF" and importlib.util.find_spec("pillow_heif") is None:
            raise UnsupportedMediaType("HEIC images are not supported here: send a JPEG, or install pillow-heif")
        budget.allow(_ISOLATED_COST)
        picture = isolated.read_picture(content, name, int(budget.pixels), budget.limits, budget.task)
        budget.take_pixels(picture.width, picture.height, 1 if name == "TIFF" else _CANVAS_WEIGHT)
        return picture
    return read_picture_here(content, name, budget)


def read_picture_here(content: bytes, name: str, budget: Budget) -> Picture:
    """Like `read_picture`, but always in this process."""
    try:
        return _READERS[name](content, budget)
    except (FashionMNISTError, TooSlow, MemoryError):
        raise
    except Exception:
        # Pillow and its libraries raise many exceptions for damaged files, with unhelpful messages.
        raise CorruptImage(f"the {name} cannot be decoded: send the original file, or save it again") from None


class Reader(io.BytesIO):
    """A file for Pillow, with limits on how it is read."""

    def __init__(self, content: bytes, budget: Budget) -> None:
        super().__init__(content)
        self._left = _QUICK_READS if budget.quick else _READS + len(content) // _BYTES_A_READ
        self._budget = budget
        self.max_bytes: int | None = None
        """The maximum number of bytes to read at once."""
        self.end: int | None = None
        """The offset at which a JPEG's pixels end; after it, a few zeros are read once."""
        self._ended = False

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            self._budget.allow(_SLOW_COST)
            raise CorruptImage("the file consists of too many pieces: save it again")
        if self.max_bytes is not None and size is not None and size > self.max_bytes:
            raise CorruptImage("the file has too much data beside its image: save it without layers")
        if self.end is None:
            return super().read(size)
        left = self.end - self.tell()
        if left > 0:
            return super().read(left if size is None or size < 0 else min(left, size))
        if self._ended:
            return b""
        self._ended = True
        return _AHEAD


def _read_png(content: bytes, budget: Budget) -> Picture:
    chunks = png.check(content, PngImagePlugin.ChunkStream(Reader(content, budget)))
    image = PngImagePlugin.PngImageFile(Reader(chunks.content, budget))
    budget.take_pixels(*image.size)
    layout = _layout(image)
    image.load()
    bottom = image.crop((0, image.height - 1, *image.size))
    if image.info.get("interlace") or not bottom.tobytes().strip(b"\0"):
        png.check_whole(chunks)
    return _picture(image, layout, budget, frames=chunks.frames)


def _read_jpeg(content: bytes, budget: Budget) -> Picture:
    reader = Reader(content, budget)
    image = JpegImagePlugin.JpegImageFile(reader)
    header_end, size = reader.tell(), image.size
    if not image.tile:
        raise CorruptImage("the JPEG is truncated: send the whole file")
    frame = jpeg.frame(image, content, header_end)
    markers = jpeg.markers(content)
    jpeg.take_cost(image, markers, header_end, frame, budget)
    end = jpeg.end(markers, header_end)
    if frame.streams:
        # If the decoder reads beyond its look-ahead, the pixels are truncated and followed by an end marker. libjpeg
        # would silently fill the rest with gray.
        reader.end = end
    orientation = _orientation(image)
    if frame.scales:
        scale = max(1, max(size) // _working_side(budget))
        image.draft(None, (-(-size[0] // scale), -(-size[1] // scale)))
    # Arithmetic coding needs all data at once.
    image.decodermaxblock = len(content)
    layout = _layout(image)
    image.load()
    return to_picture(image, layout, size, orientation, _working_side(budget), [])


def _read_webp(content: bytes, budget: Budget) -> Picture:
    image = WebPImagePlugin.WebPImageFile(Reader(content, budget))
    budget.take_pixels(*image.size, _CANVAS_WEIGHT)
    image.load()
    return _picture(image, image.mode, budget, frames=image.n_frames)


def _read_bmp(content: bytes, budget: Budget) -> Picture:
    image = BmpImagePlugin.BmpImageFile(Reader(content, budget))
    budget.take_pixels(*image.size, _RLE_WEIGHT if image.tile[0].codec_name == "bmp_rle" else 1)
    layout = _layout(image)
    image.load()
    picture = _picture(image, layout, budget)
    if picture.alpha is not None and not picture.alpha.any():
        # An empty alpha channel: writers that do not know of it leave zeros there.
        return Picture(picture.pixels, None, picture.width, picture.height, picture.notes)
    return picture


def _read_gif(content: bytes, budget: Budget) -> Picture:
    budget.allow(_SLOW_COST)
    image = GifImagePlugin.GifImageFile(Reader(content, budget))
    budget.take_pixels(*image.size)
    animated = image.is_animated
    image.load()
    return _picture(image, image.mode, budget, frames=2 if animated else 1, counted=False)


def _read_tiff(content: bytes, budget: Budget) -> Picture:
    reader = Reader(content, budget)
    reader.max_bytes = _MAX_TAG_BYTES
    image = TiffImagePlugin.TiffImageFile(reader)
    compression = image.info.get("compression")
    if compression not in _TIFF_COMPRESSIONS:
        raise UnsupportedMediaType(
            f"the TIFF's compression, {compression!r}, is not supported: save it with LZW, Deflate or none"
        )
    if len(image.tile) > _MAX_STRIPS:
        raise CorruptImage(f"the TIFF has more than {_MAX_STRIPS:,} strips: save it again")
    budget.take_pixels(*image.size)
    layout, animated, orientation = _layout(image), image.is_animated, _orientation(image)
    if image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        layout += ";I"
    reader.max_bytes = None
    # Pillow rotates it itself.
    image.load()
    notes = _notes(2 if animated else 1, counted=False) + (["turned upright"] if orientation != 1 else [])
    return to_picture(image, layout, image.size, 1, _working_side(budget), notes)


def _read_avif(content: bytes, budget: Budget) -> Picture:
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    image = AvifImagePlugin.AvifImageFile(Reader(content, budget))
    budget.take_pixels(*image.size, _CANVAS_WEIGHT)
    image.load()
    return _picture(image, image.mode, budget, frames=image.n_frames)


def _read_heif(content: bytes, budget: Budget) -> Picture:
    from pillow_heif import HeifImageFile

    image = HeifImageFile(Reader(content, budget))
    width, height = image.size
    budget.take_pixels(width, height, _CANVAS_WEIGHT)
    image.load()
    return _picture(image, image.mode, budget)


_READERS: Final[dict[str, Callable[[bytes, Budget], Picture]]] = {
    "PNG": _read_png,
    "JPEG": _read_jpeg,
    "WEBP": _read_webp,
    "BMP": _read_bmp,
    "GIF": _read_gif,
    "TIFF": _read_tiff,
    "AVIF": _read_avif,
    "HEIF": _read_heif,
}


def _picture(
    image: ImageFile.ImageFile, layout: str, budget: Budget, *, frames: int = 1, counted: bool = True
) -> Picture:
    return to_picture(
        image, layout, image.size, _orientation(image), _working_side(budget), _notes(frames, counted=counted)
    )


def _notes(frames: int, *, counted: bool) -> list[str]:
    return [f"first of {frames:,} frames" if counted else "first of several frames"] if frames > 1 else []


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, if it is missing or unreadable."""
    try:
        orientation: Any = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _layout(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the format of the samples in the file, which is known until the image is loaded."""
    arguments: Any = image.tile[0].args if image.tile else image.mode
    first = arguments[0] if isinstance(arguments, tuple) else arguments
    return first if isinstance(first, str) else image.mode


def _working_side(budget: Budget) -> int:
    return WORKING_SIDES * max(budget.geometry.height, budget.geometry.width)


@functools.lru_cache(maxsize=16)
def _plain_start(geometry: Any) -> bytes:
    return png.plain_start(geometry)
