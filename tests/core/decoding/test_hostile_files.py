"""Image files that are cut, altered or made to harm: refused with an error, at a bounded cost, without a word."""

import base64
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fashion_mnist.decoding import isolated
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.formats import START_BYTES, format_of, read_picture_here
from fashion_mnist.decoding.limits import PREPARATION_COST, QUICK_PIXELS, Budget, Limits, TooSlow
from fashion_mnist.errors import CorruptImage, InputError, TooManyPixels, UnsupportedMediaType
from fashion_mnist.task import FASHION_MNIST
from tests.support.bodies import OCTET_STREAM, PNG_SIGNATURE, png_chunk
from tests.support.odd_files import COLOR, GRAY, odd_files, saved

LIMITS = Limits(max_body_bytes=16 * 2**20, max_pixels=50_000_000, max_images=16384)
JPEG = saved(COLOR, "JPEG")
PROGRESSIVE = saved(np.tile(COLOR, (8, 8, 1)), "JPEG", progressive=True)
FILES = [odd.content for odd in odd_files() if not odd.name.startswith("TIFF")] + [JPEG, PROGRESSIVE]
TIFFS = [odd.content for odd in odd_files() if odd.name.startswith("TIFF")]
PEAK_BYTES = 450 * 2**20
"""What a request may take at most beside its body, and the interpreter with it."""


@contextmanager
def standard_error() -> Iterator[IO[bytes]]:
    """What is written to the descriptor, by whichever language."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(before, 2)
            os.close(before)


def outcome(content: bytes) -> str:
    """An error's code, or "" where there is an image."""
    try:
        decode(content, "", LIMITS, FASHION_MNIST)
    except InputError as error:
        return error.code
    return ""


class TestTruncation:
    """What is not whole is refused, wherever it was cut."""

    @pytest.mark.parametrize("content", [*FILES, *TIFFS[:3], saved(COLOR, "AVIF", speed=10)], ids=lambda content: "")
    def test_half_a_file(self, content: bytes) -> None:
        name = format_of(content[:START_BYTES])
        # Of a BMP and a GIF the end is the last row's; of a TIFF it may be its directory.
        for length in (len(content) // 2, len(content) * 3 // 4):
            assert outcome(content[:length]) == "corrupt_image", name

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95])
    @pytest.mark.parametrize(
        "options", [{}, {"restart_marker_blocks": 3}, {"subsampling": 0}, {"optimize": True}], ids=str
    )
    def test_part_of_a_jpeg_with_an_end_marker(self, options: dict[str, int], share: float) -> None:
        content = saved(np.tile(COLOR, (8, 8, 1)), "JPEG", **options)
        assert outcome(content) == ""
        assert outcome(content[: int(len(content) * share)] + b"\xff\xd9") == "corrupt_image"

    def test_a_progressive_jpeg_of_its_first_scan_alone(self) -> None:
        second = PROGRESSIVE.index(b"\xff\xda", PROGRESSIVE.index(b"\xff\xda") + 1)
        assert outcome(PROGRESSIVE) == ""
        assert outcome(PROGRESSIVE[: second - 100] + b"\xff\xd9") == "corrupt_image"

    def test_a_small_jpeg_with_an_end_marker(self) -> None:
        content = saved(np.resize(GRAY, (28, 28)), "JPEG", quality=90)
        assert outcome(content) == ""
        assert outcome(content[: len(content) * 2 // 3] + b"\xff\xd9") == "corrupt_image"

    @pytest.mark.parametrize("rows", [0, 1, 10, 18])
    @pytest.mark.parametrize("interlaced", [0, 1])
    def test_a_png_whose_stream_ends_with_a_row(self, rows: int, interlaced: int) -> None:
        header = struct.pack(">IIBBBBB", 28, 19, 8, 0, 0, 0, interlaced)
        data = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress((b"\0" + bytes([9]) * 28) * rows))
        assert outcome(PNG_SIGNATURE + data + png_chunk(b"IEND", b"")) == "corrupt_image"

    def test_an_altered_checksum_anywhere_in_a_png(self) -> None:
        content = saved(GRAY, "PNG", exif=Image.Exif())
        for place in range(8, len(content)):
            altered = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
            assert outcome(altered) == "corrupt_image"


class TestCost:
    """What it costs is known before it is spent."""

    def test_a_jpeg_that_hides_its_frame_behind_a_stuffed_byte(self) -> None:
        """One parser may take `FF 00` for a segment with a length, and pass over the frame header in it."""
        content = saved(GRAY, "JPEG")
        start = content.index(b"\xff\xc0")
        decoy = content[start : start + 13]
        real = decoy.replace(struct.pack(">HH", *GRAY.shape), struct.pack(">HH", 32000, 32000))
        hidden = content[:start] + b"\xff\x00" + struct.pack(">H", 2 + len(real)) + real + content[start:]
        for attempt in (hidden, content[:start] + real + content[start + 13 :], content[:start] + decoy + real):
            assert outcome(attempt) in ("corrupt_image", "too_many_pixels")

    @pytest.mark.parametrize(("width", "height", "taken"), [(15000, 15000, True), (16000, 16000, False)])
    def test_a_baseline_jpeg_may_have_250_megapixels(self, width: int, height: int, taken: bool) -> None:
        # Of the size of a block of pixels, and then so many of them: the coded data of flat ones.
        content = _flat_jpeg(width, height)
        if taken:
            assert decode(content, "", LIMITS, FASHION_MNIST, prepare="none").adjusted == {
                0: [f"resized from {width} x {height}"]
            }
        else:
            with pytest.raises(TooManyPixels, match="a fifth|0.2"):
                decode(content, "", LIMITS, FASHION_MNIST)

    def test_a_progressive_jpeg_may_have_50(self) -> None:
        content = saved(Image.new("L", (7200, 7200), 9), "JPEG", progressive=True)
        with pytest.raises(TooManyPixels, match="7200 x 7200"):
            decode(content, "", LIMITS, FASHION_MNIST)

    def test_a_progressive_jpeg_of_hundreds_of_scans(self) -> None:
        content = saved(Image.new("L", (4096, 4096), 9), "JPEG", progressive=True)
        assert outcome(content) == ""
        last = content[content.rindex(b"\xff\xda") : -2]
        with pytest.raises(TooManyPixels, match="scans"):
            decode(content[:-2] + last * 200 + content[-2:], "", LIMITS, FASHION_MNIST)

    def test_a_lossless_jpeg_is_decoded_whole_or_refused(self) -> None:
        assert outcome(_lossless_jpeg(512, 512)) == ""
        assert outcome(_lossless_jpeg(8000, 8000)) == "too_many_pixels"

    def test_a_png_that_inflates_to_gigabytes_costs_no_more_than_its_rows(self) -> None:
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 29, 28, 8, 0, 0, 0, 0))
        data = zlib.compress(bytes(2**24), 9)
        # What is never inflated may be damaged.
        data = data[:1000] + b"\xff" * (len(data) - 1000)
        content = PNG_SIGNATURE + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
        assert decode(content, "", LIMITS, FASHION_MNIST, prepare="none").adjusted == {0: ["resized from 29 x 28"]}

    def test_a_header_of_millions_of_pieces(self) -> None:
        gif = saved(GRAY, "GIF")
        for content in (
            JPEG[:2] + b"\xff" * 10_000_000,
            JPEG[:2] + b"\xff\xfe\0\2" * 2_000_000 + JPEG[2:],
            gif[:-1] + b"!\xfe" + b"\1a" * 4_000_000 + b"\0;",
            gif[:13] + b"!\xfe" + b"\1a" * 4_000_000 + b"\0" + gif[13:],
            PNG_SIGNATURE + png_chunk(b"tEXt", b"") * 1_000_000,
        ):
            assert outcome(content) in ("corrupt_image", "")

    def test_a_tiff_of_a_compression_that_is_not_known_to_be_cheap(self) -> None:
        for compression in ("jpeg", "group4", "zstd"):
            image = Image.fromarray(GRAY > 9) if compression == "group4" else Image.fromarray(COLOR)
            with pytest.raises(UnsupportedMediaType, match="compression"):
                decode(saved(image, "TIFF", compression=compression), "", LIMITS, FASHION_MNIST)

    def test_an_avif_that_holds_more_than_it_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its library decodes all before it compares: in a process of its own, of bounded memory."""
        content = saved(Image.new("RGB", (4000, 4000), (90, 80, 70)), "AVIF", speed=10, quality=20)
        size = struct.pack(">II", 4000, 4000)
        assert content.count(size) == 1
        lie = content.replace(size, struct.pack(">II", 28, 28))
        assert outcome(lie) == ""
        monkeypatch.setattr(isolated, "MEMORY_BYTES", 150 * 2**20)
        assert outcome(lie) == "corrupt_image"

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
    def test_what_may_be_slow_is_never_done_where_others_wait(self, format: str) -> None:
        large = saved(Image.new("RGB", (800, 800)), format, **({"progressive": True} if format == "JPEG" else {}))
        for content in (large, json.dumps([base64.b64encode(large).decode()]).encode(), gzip.compress(GRAY.tobytes())):
            with pytest.raises(TooSlow):
                decode(content, "", LIMITS, FASHION_MNIST, QUICK_PIXELS)
        assert len(decode(saved(np.resize(GRAY, (28, 28)), "PNG"), "", LIMITS, FASHION_MNIST, QUICK_PIXELS)) == 1

    def test_a_small_photograph_is_not_decoded_where_others_wait(self) -> None:
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0))
        damaged = PNG_SIGNATURE + header + png_chunk(b"IDAT", b"damaged") + png_chunk(b"IEND", b"")
        with pytest.raises(TooSlow):
            decode(damaged, "", LIMITS, FASHION_MNIST, QUICK_PIXELS)
        assert outcome(damaged) == "corrupt_image"

    def test_what_many_preparations_cost_is_known_before_the_first(self) -> None:
        count = 1000
        with pytest.raises(TooSlow) as slow:
            decode(bytes(count * 784), OCTET_STREAM, LIMITS, FASHION_MNIST, 2 * PREPARATION_COST, "always")
        assert slow.value.cost == count * PREPARATION_COST


def _flat_jpeg(width: int, height: int) -> bytes:
    """A gray baseline JPEG of one level: each block's difference and its end take six bits, all of them the same."""
    side = 1600
    small = saved(Image.new("L", (side, side), 128), "JPEG")
    start = small.index(b"\xff\xda")
    header = small[:start].replace(struct.pack(">HH", side, side), struct.pack(">HH", height, width))
    scan = small[start : start + 10]
    blocks = -(-width // 8) * -(-height // 8)
    bits = blocks * 6
    unit = small[start + 10 : start + 10 + 3]  # four blocks, from the second on as at the beginning: a level of 128
    return header + scan + unit * (bits // 24 + 1) + b"\xff\xd9"


def _lossless_jpeg(width: int, height: int) -> bytes:
    """A gray one of level 128: each pixel is as predicted, which takes one bit."""
    frame = struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    table = struct.pack(">HB16sB", 20, 0, bytes([1]) + bytes(15), 0)
    scan = struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 0, 0)
    marked = b"\xff\xc3" + frame + b"\xff\xc4" + table + b"\xff\xda" + scan
    return b"\xff\xd8" + marked + bytes(-(-width * height // 8)) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("kind", "program"),
    [
        ("PNG of 50 megapixels", "saved(Image.new('RGBA', (7000, 7100), (1, 2, 3, 4)), 'PNG')"),
        ("PNG of 16 bits", "saved(np.zeros((7000, 7100), np.uint16), 'PNG')"),
        ("palette", "saved(Image.new('P', (7000, 7100)), 'PNG', transparency=1)"),
        (
            "progressive JPEG",
            "saved(Image.new('RGB', (7000, 7100), (9, 8, 7)), 'JPEG', progressive=True, subsampling=0)",
        ),
        ("CMYK JPEG", "saved(Image.new('CMYK', (7000, 7100)), 'JPEG')"),
        ("baseline JPEG", "saved(Image.new('RGB', (15000, 15000), (9, 8, 7)), 'JPEG')"),
        ("WebP", "saved(Image.new('RGBA', (4400, 4500), (9, 8, 7, 6)), 'WEBP', lossless=True)"),
        ("GIF", "saved(Image.new('P', (7000, 7100)), 'GIF', transparency=0)"),
        ("TIFF", "saved(Image.new('RGB', (7000, 7100)), 'TIFF', compression='tiff_lzw')"),
    ],
)
def test_the_memory_of_a_request_is_bounded(kind: str, program: str, tmp_path: os.PathLike[str]) -> None:
    image = os.path.join(tmp_path, "image")
    made = (
        "from PIL import ImageFile\n"
        "from tests.support.odd_files import *\n"
        "ImageFile.MAXBLOCK = 2**26\n"
        f"open({image!r}, 'wb').write({program})\n"
    )
    subprocess.run([sys.executable, "-c", made], check=True, timeout=120)
    decoding = (
        "import re\n"
        "from fashion_mnist.task import FASHION_MNIST\n"
        "from fashion_mnist.decoding.bodies import decode\n"
        "from fashion_mnist.decoding.limits import Limits\n"
        "from fashion_mnist.errors import InputError\n"
        f"content = open({image!r}, 'rb').read()\n"
        "try:\n"
        "    decode(content, '', Limits(len(content), 50_000_000, 1), FASHION_MNIST)\n"
        "except InputError as error:\n"
        "    print(error.code)\n"
        "(peak,) = re.findall(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())\n"
        "print(int(peak) * 1024 - len(content))\n"
    )
    done = subprocess.run([sys.executable, "-c", decoding], check=True, capture_output=True, text=True, timeout=120)
    assert int(done.stdout.split()[-1]) < PEAK_BYTES, kind


def _mutated(content: bytes, seed: int) -> bytes:
    generator = random.Random(seed)
    file = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        place = generator.randrange(len(file))
        way = generator.random()
        if way < 0.6:
            file[place] = generator.randrange(256)
        elif way < 0.7:
            file = file[: place + 1]
        elif way < 0.85:
            file[place:place] = file[generator.randrange(len(file)) :][: generator.randrange(64)]
        else:
            del file[place + 1 : place + 1 + generator.randrange(16)]
    return bytes(file)


@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FILES), st.integers(0, 2**32))
def test_an_altered_file_is_an_image_or_an_error_and_writes_nothing(content: bytes, seed: int) -> None:
    with standard_error() as written:
        outcome(_mutated(content, seed))
        written.seek(0)
        assert written.read() == b""


@settings(max_examples=10)
@given(st.sampled_from(TIFFS), st.integers(0, 2**32))
def test_an_altered_file_of_an_isolated_format_writes_nothing_either(content: bytes, seed: int) -> None:
    with standard_error() as written:
        outcome(_mutated(content, seed))
        written.seek(0)
        assert written.read() == b""


@settings(max_examples=300)
@given(st.sampled_from(TIFFS), st.integers(0, 2**32))
def test_an_altered_tiff_is_a_picture_or_an_error_in_its_process(content: bytes, seed: int) -> None:
    with standard_error():
        try:
            read_picture_here(_mutated(content, seed), "TIFF", Budget(LIMITS, FASHION_MNIST))
        except CorruptImage as error:
            assert error.message
        except (TooManyPixels, UnsupportedMediaType):
            pass


def test_pillows_warnings_are_no_lines_in_the_log() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that is long enough to stand elsewhere"
    damaged = saved(COLOR, "JPEG", exif=exif).replace(
        struct.pack(">HHI", 0x010E, 2, 53), struct.pack(">HHI", 0x010E, 2, 9999)
    )
    program = (
        "import sys\n"
        "from fashion_mnist.task import FASHION_MNIST\n"
        "from fashion_mnist.decoding.bodies import decode\n"
        "from fashion_mnist.decoding.limits import Limits\n"
        "decode(sys.stdin.buffer.read(), '', Limits(2**24, 2**24, 1), FASHION_MNIST)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=damaged, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
