"""Image files: told by their first bytes, checked, decoded by Pillow, and fitted to the network's size.

Nothing is decoded before its size is known and paid for; sizes are those of the library that decodes.
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

# A budget is each image's limit, and may be larger than what Pillow warns of.
Image.MAX_IMAGE_PIXELS = None
# Of odd metadata: clients would write into our log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

START_BYTES: Final = 32
"""So many of a file's first bytes tell its format."""

WORKING_SIDES: Final = 8
"""The sides of the network's image that a large one keeps, at least, until it is fitted."""

_ISOLATED: Final = frozenset({"TIFF", "AVIF", "HEIF"})
"""Decoded in a process of its own: see `isolated`."""

_ISOLATED_COST: Final = 2**23
"""What starting the process counts, in pixels: beside another one there is no memory for it."""

_SLOW_COST: Final = 2**17
"""What counts more than is quick, and of which no more is known."""

_CANVAS_WEIGHT: Final = 2.5
"""What a pixel counts of WebP, AVIF and HEIF, whose decoders have it in memory several times over."""

_RLE_WEIGHT: Final = 32
"""What a pixel counts of a run-length-encoded BMP, which Pillow decodes in Python."""

_READS: Final = 4096
_BYTES_A_READ: Final = 32
_QUICK_READS: Final = 512
"""How often a file may be read: so often, and once more for so many of its bytes; less where it is to be quick."""

_MOST_TAG_BYTES: Final = 2**20
_MOST_STRIPS: Final = 10_000
_TIFF_COMPRESSIONS: Final = frozenset({"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"})
_MIN_IS_WHITE: Final = 0
_ORIENTATION: Final = 0x0112
_PHOTOMETRIC: Final = 262

_AHEAD: Final = bytes(16)
"""What a decoder is given behind the last byte of a JPEG: as much as it looks ahead, and no more."""


def format_of(start: bytes) -> str | None:
    """Pillow's name of the format of a file that begins with these bytes, of which START_BYTES suffice.

    None where it is no image file. "HEIF" is the optional one.
    """
    if start.startswith(png.SIGNATURE):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff") and start[3:4] >= b"\xc0":
        return "JPEG"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    # Two letters are not enough to tell a BMP from pixels: the reserved bytes behind its length are zero too.
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
    if needs_preparation(picture.pixels, geometry, budget.prepare):
        budget.take_preparation()
    whole = (picture.width, picture.height)
    pixels, done = prepare(picture.pixels, picture.alpha, geometry, budget.prepare, whole, budget.steps)
    return pixels, [*picture.notes, *done]


def read_picture(content: bytes, name: str, budget: Budget) -> Picture:
    """An image file of the format `name` as a picture, its longer side at least WORKING_SIDES of the network's.

    Raises as `decode_file` does.
    """
    if name in _ISOLATED:
        if name == "HEIF" and importlib.util.find_spec("pillow_heif") is None:
            raise UnsupportedMediaType("HEIC images are not understood here: send a JPEG, or install pillow-heif")
        budget.allow(_ISOLATED_COST)
        picture = isolated.read_picture(content, name, int(budget.pixels), budget.limits, budget.geometry)
        budget.take_pixels(picture.width, picture.height, 1 if name == "TIFF" else _CANVAS_WEIGHT)
        return picture
    return read_picture_here(content, name, budget)


def read_picture_here(content: bytes, name: str, budget: Budget) -> Picture:
    """As `read_picture`, and always in this process."""
    try:
        return _READERS[name](content, budget)
    except (FashionMNISTError, TooSlow, MemoryError):
        raise
    except Exception:
        # Pillow and what it calls fail at damaged files in as many ways as there are, and say little of them.
        raise CorruptImage(f"the {name} cannot be decoded: send the original file, or save it anew") from None


class Reader(io.BytesIO):
    """A file for Pillow to read."""

    def __init__(self, content: bytes, budget: Budget) -> None:
        super().__init__(content)
        self._left = _QUICK_READS if budget.quick else _READS + len(content) // _BYTES_A_READ
        self._budget = budget
        self.most_bytes: int | None = None
        """The most that may be read at once."""
        self.end: int | None = None
        """Where the pixels of a JPEG end; behind it a few zeros are read, once."""
        self._ended = False

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            self._budget.allow(_SLOW_COST)
            raise CorruptImage("the file consists of too many pieces: save it anew")
        if self.most_bytes is not None and size is not None and size > self.most_bytes:
            raise CorruptImage("the file has too much in it that is no image: save it without layers")
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
        raise CorruptImage("the JPEG is cut short: send the whole file")
    frame = jpeg.frame(image, content, header_end)
    markers = jpeg.markers(content)
    jpeg.pay(image, markers, header_end, frame, budget)
    end = jpeg.end(markers, header_end)
    if frame.streams:
        # Where the decoder asks for more than it looks ahead, it is not done: the pixels were cut, and an end was
        # written behind them. libjpeg would fill the rest with gray and say nothing.
        reader.end = end
    orientation = _orientation(image)
    if frame.scales:
        scale = max(1, max(size) // _working_side(budget))
        image.draft(None, (-(-size[0] // scale), -(-size[1] // scale)))
    # Arithmetic coding must see all at once.
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
        # A mask for alpha and nothing in it: writers that do not know of it leave zeros there.
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
    reader.most_bytes = _MOST_TAG_BYTES
    image = TiffImagePlugin.TiffImageFile(reader)
    compression = image.info.get("compression")
    if compression not in _TIFF_COMPRESSIONS:
        raise UnsupportedMediaType(f"a TIFF compressed as {compression!r}: save it with LZW, Deflate or none")
    if len(image.tile) > _MOST_STRIPS:
        raise CorruptImage(f"the TIFF has more than {_MOST_STRIPS:,} strips: save it anew")
    budget.take_pixels(*image.size)
    layout, animated, orientation = _layout(image), image.is_animated, _orientation(image)
    if image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        layout += ";I"
    reader.most_bytes = None
    # Pillow turns it upright itself.
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
    """EXIF's orientation, 1 to 8; 1, upright, where there is none that can be read."""
    try:
        orientation: Any = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _layout(image: ImageFile.ImageFile) -> str:
    """Pillow's name of the form that the samples have in the file; it is known until the image is loaded."""
    arguments: Any = image.tile[0].args if image.tile else image.mode
    first = arguments[0] if isinstance(arguments, tuple) else arguments
    return first if isinstance(first, str) else image.mode


def _working_side(budget: Budget) -> int:
    return WORKING_SIDES * max(budget.geometry.height, budget.geometry.width)


@functools.lru_cache(maxsize=16)
def _plain_start(geometry: Any) -> bytes:
    return png.plain_start(geometry)
