"""Image files that are valid and seldom met: by Pillow where it writes them, else put together byte by byte."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.bodies import PNG_SIGNATURE, png_chunk

Pixels = NDArray[np.uint8]

HEIGHT, WIDTH = 19, 26
_RANDOM = np.random.default_rng(0)
GRAY: Pixels = _RANDOM.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
COLOR: Pixels = _RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ALPHA: Pixels = _RANDOM.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
UPRIGHT = "turned upright"
REDUCED = "16 bits a channel reduced to 8"


@dataclass(frozen=True)
class OddFile:
    """A file, and what it holds."""

    name: str
    content: bytes
    pixels: Pixels
    alpha: Pixels | None = None
    notes: list[str] = field(default_factory=list)


def odd_files() -> Iterator[OddFile]:
    """All of them; none loses anything."""
    yield from _pngs()
    yield from _bmps()
    yield from _gifs()
    yield from _tiffs()
    yield from _webps()


def saved(image: Image.Image | NDArray[Any], format: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def oriented(orientation: int) -> Image.Exif:
    """EXIF data that say no more than this."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(
    depth: int, color: int, rows: list[bytes], chunks: bytes = b"", width: int = WIDTH, behind: bytes = b""
) -> bytes:
    """A PNG of rows that are packed already."""
    header = struct.pack(">IIBBBBB", WIDTH, len(rows), depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        PNG_SIGNATURE
        + png_chunk(b"IHDR", header)
        + chunks
        + png_chunk(b"IDAT", data)
        + behind
        + png_chunk(b"IEND", b"")
    )


def _packed(samples: NDArray[np.integer[Any]], depth: int) -> list[bytes]:
    """Rows of samples of so many bits; of 16, the most significant byte is first."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def _interlaced() -> bytes:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [
        b"\0" + row.tobytes() for left, top, across, down in passes for row in GRAY[top::down, left::across] if len(row)
    ]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 1)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return PNG_SIGNATURE + chunks + png_chunk(b"IEND", b"")


def _pngs() -> Iterator[OddFile]:
    for depth in (1, 2, 4, 8, 16):
        samples = _RANDOM.integers(0, 2**depth, (HEIGHT, WIDTH))
        gray = (samples >> 8 if depth == 16 else samples * (255 // (2**depth - 1))).astype(np.uint8)
        notes = [REDUCED] if depth == 16 else []
        yield OddFile(f"PNG, gray of {depth} bits", png(depth, 0, _packed(samples, depth)), gray, notes=notes)
        key = int(samples[3, 3])
        keyed = png(depth, 0, _packed(samples, depth), png_chunk(b"tRNS", struct.pack(">H", key)))
        alpha = np.where(samples == key, 0, 255).astype(np.uint8)
        yield OddFile(f"PNG, gray of {depth} bits, one transparent", keyed, gray, alpha, notes)
        if depth < 16:
            palette = COLOR.reshape(-1, 3)[: 2**depth]
            rest = png_chunk(b"PLTE", palette.tobytes())
            yield OddFile(
                f"PNG, palette of {depth} bits", png(depth, 3, _packed(samples, depth), rest), palette[samples]
            )
            alphas = ALPHA.reshape(-1)[: 2**depth]
            rest += png_chunk(b"tRNS", alphas.tobytes())
            yield OddFile(
                f"PNG, palette of {depth} bits with alpha",
                png(depth, 3, _packed(samples, depth), rest),
                palette[samples],
                alphas[samples],
            )
    yield OddFile("PNG, gray and alpha", saved(np.dstack([GRAY, ALPHA]), "PNG"), GRAY, ALPHA)
    wide = np.dstack([GRAY, ALPHA]).astype(np.uint16) * 257
    yield OddFile("PNG, gray and alpha of 16 bits", png(16, 4, _packed(wide, 16)), GRAY, ALPHA, [REDUCED])
    yield OddFile("PNG, RGBA", saved(np.dstack([COLOR, ALPHA]), "PNG"), COLOR, ALPHA)
    wide = np.dstack([COLOR, ALPHA]).astype(np.uint16) * 257
    yield OddFile("PNG, RGBA of 16 bits", png(16, 6, _packed(wide, 16)), COLOR, ALPHA, [REDUCED])
    key_alpha = np.where((COLOR[2, 5] == COLOR).all(axis=2), 0, 255).astype(np.uint8)
    chunk = png_chunk(b"tRNS", struct.pack(">HHH", *COLOR[2, 5].tolist()))
    yield OddFile("PNG, RGB, one transparent", png(8, 2, _packed(COLOR, 8), chunk), COLOR, key_alpha)
    chunk = png_chunk(b"tRNS", struct.pack(">HHH", *(COLOR[2, 5].astype(int) * 257).tolist()))
    wide = COLOR.astype(np.uint16) * 257
    yield OddFile(
        "PNG, RGB of 16 bits, one transparent", png(16, 2, _packed(wide, 16), chunk), COLOR, key_alpha, [REDUCED]
    )
    yield OddFile("PNG, interlaced", _interlaced(), GRAY)
    yield OddFile("PNG, one row of pixels", png(8, 0, _packed(GRAY[:1], 8)), GRAY[:1])
    yield OddFile("PNG, black below", saved(np.vstack([GRAY, GRAY * 0]), "PNG"), np.vstack([GRAY, GRAY * 0]))
    yield OddFile("PNG, EXIF", saved(GRAY, "PNG", exif=oriented(6)), np.rot90(GRAY, -1), notes=[UPRIGHT])
    exif = png_chunk(b"eXIf", oriented(3).tobytes()[6:])
    yield OddFile("PNG, EXIF behind", png(8, 0, _packed(GRAY, 8), behind=exif), GRAY[::-1, ::-1], notes=[UPRIGHT])
    frames = [Image.fromarray(COLOR), Image.fromarray(COLOR[::-1])]
    animated = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield OddFile("PNG, animated", animated, COLOR, notes=["first of 2 frames"])


def _bmp(header: bytes, bits: bytes, between: bytes = b"") -> bytes:
    offset = 14 + len(header) + len(between)
    return b"BM" + struct.pack("<IIi", offset + len(bits), 0, offset) + header + between + bits


def _bmp_rows(array: NDArray[Any], flipped: bool = True) -> bytes:
    rows = [row.tobytes() for row in (array[::-1] if flipped else array)]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def _info(depth: int, compression: int = 0, height: int = HEIGHT, size: int = 40, colors: int = 0) -> bytes:
    return struct.pack("<IiiHHIIiiII", size, WIDTH, height, 1, depth, compression, 0, 0, 0, colors, 0)


def _bmps() -> Iterator[OddFile]:
    blue_first = COLOR[:, :, ::-1]
    core = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    yield OddFile("BMP, core header", _bmp(core, _bmp_rows(blue_first)), COLOR)
    yield OddFile("BMP, top down", _bmp(_info(24, height=-HEIGHT), _bmp_rows(blue_first, flipped=False)), COLOR)
    unused = np.dstack([blue_first, np.zeros_like(GRAY)])
    yield OddFile("BMP, 32 bits, the last unused", _bmp(_info(32), _bmp_rows(unused)), COLOR)
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    yield OddFile("BMP, 32 bits by masks", _bmp(_info(32, 3), _bmp_rows(unused), masks), COLOR)
    masks += struct.pack("<I", 0xFF000000) + bytes(52)
    with_alpha = _bmp_rows(np.dstack([blue_first, ALPHA]))
    yield OddFile("BMP, alpha by a mask", _bmp(_info(32, 3, size=108) + masks, with_alpha), COLOR, ALPHA)
    yield OddFile("BMP, a mask for alpha and none", _bmp(_info(32, 3, size=108) + masks, _bmp_rows(unused)), COLOR)
    yield OddFile("BMP, gray by a palette", saved(GRAY, "BMP"), GRAY)
    bits = GRAY // 128
    packed = np.packbits(bits, axis=1)
    palette = struct.pack("<II", 0, 0xFFFFFF)
    yield OddFile("BMP, one bit", _bmp(_info(1), _bmp_rows(packed), palette), bits * np.uint8(255))
    nibbles = GRAY // 16
    palette = b"".join(bytes((blue, green, red, 0)) for red, green, blue in COLOR.reshape(-1, 3)[:16])
    halves = nibbles[:, ::2] << 4 | nibbles[:, 1::2]
    yield OddFile("BMP, palette of 4 bits", _bmp(_info(4), _bmp_rows(halves), palette), COLOR.reshape(-1, 3)[nibbles])
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    runs = b"".join(b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in GRAY[::-1]) + b"\0\1"
    yield OddFile("BMP, run lengths", _bmp(_info(8, 1), runs, palette), GRAY)


def _gifs() -> Iterator[OddFile]:
    plain = Image.fromarray(GRAY)
    yield OddFile("GIF", saved(plain, "GIF"), GRAY)
    yield OddFile("GIF, interlaced", saved(plain, "GIF", interlace=1), GRAY)
    palette = Image.fromarray(COLOR).quantize(64)
    colors = np.asarray(palette.convert("RGB"))
    yield OddFile("GIF, colors", saved(palette, "GIF"), colors)
    key = int(np.asarray(palette)[4, 4])
    alpha = np.where(np.asarray(palette) == key, 0, 255).astype(np.uint8)
    yield OddFile("GIF, transparent", saved(palette, "GIF", transparency=key), colors, alpha)
    animated = saved(plain, "GIF", save_all=True, append_images=[Image.fromarray(GRAY[::-1])])
    yield OddFile("GIF, animated", animated, GRAY, notes=["first of several frames"])


def _tiff_gray(order: str, white_is_zero: bool, depth: int, samples: NDArray[np.integer[Any]]) -> bytes:
    """A TIFF of one strip, its numbers in either order."""
    data = samples.astype(f"{order}u{depth // 8}").tobytes()
    entries = [
        (256, 4, WIDTH), (257, 4, HEIGHT), (258, 3, depth), (259, 3, 1), (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8), (277, 3, 1), (278, 4, HEIGHT), (279, 4, len(data)),
    ]  # fmt: skip
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack(f"{order}HHI", tag, kind, 1)
        directory += struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    signature = b"II*\0" if order == "<" else b"MM\0*"
    return signature + struct.pack(f"{order}I", 8 + len(data)) + data + directory + bytes(4)


def _tiffs() -> Iterator[OddFile]:
    for order in "<>":
        wide = GRAY.astype(np.uint16) * 257
        yield OddFile(f"TIFF, {order}", _tiff_gray(order, False, 8, GRAY), GRAY)
        yield OddFile(f"TIFF, {order}, white is zero", _tiff_gray(order, True, 8, 255 - GRAY), GRAY)
        yield OddFile(f"TIFF, {order}, 16 bits", _tiff_gray(order, False, 16, wide), GRAY, notes=[REDUCED])
    inverted = _tiff_gray("<", True, 16, 65535 - GRAY.astype(np.uint16) * 257)
    yield OddFile("TIFF, 16 bits, white is zero", inverted, GRAY, notes=[REDUCED])
    for compression in ("packbits", "tiff_lzw", "tiff_adobe_deflate"):
        yield OddFile(f"TIFF, {compression}", saved(COLOR, "TIFF", compression=compression), COLOR)
    yield OddFile("TIFF, RGBA", saved(np.dstack([COLOR, ALPHA]), "TIFF"), COLOR, ALPHA)
    bits = GRAY > 127
    yield OddFile("TIFF, one bit", saved(Image.fromarray(bits), "TIFF"), bits * np.uint8(255))
    turned = saved(GRAY, "TIFF", exif=oriented(8))
    yield OddFile("TIFF, on its side", turned, np.rot90(GRAY), notes=[UPRIGHT])
    pages = saved(GRAY, "TIFF", save_all=True, append_images=[Image.fromarray(GRAY[::-1])])
    yield OddFile("TIFF, two pages", pages, GRAY, notes=["first of several frames"])


def _webps() -> Iterator[OddFile]:
    yield OddFile("WebP, RGB", saved(COLOR, "WEBP", lossless=True), COLOR)
    yield OddFile("WebP, alpha", saved(np.dstack([COLOR, ALPHA]), "WEBP", lossless=True, exact=True), COLOR, ALPHA)
    turned = saved(COLOR, "WEBP", lossless=True, exif=oriented(5))
    yield OddFile("WebP, EXIF", turned, COLOR.swapaxes(0, 1), notes=[UPRIGHT])
    frames = [Image.fromarray(COLOR[::-1]), Image.fromarray(COLOR // 2)]
    animated = saved(Image.fromarray(COLOR), "WEBP", lossless=True, save_all=True, append_images=frames)
    yield OddFile("WebP, animated", animated, COLOR, notes=["first of 3 frames"])
