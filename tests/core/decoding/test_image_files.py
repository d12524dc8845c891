"""Image files: what people's programs write is read as they mean it, in every format alike."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.decoding.formats import START_BYTES, decode_file, format_of, read_picture
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.decoding.picture import Picture
from fashion_mnist.errors import UnsupportedMediaType
from fashion_mnist.task import FASHION_MNIST, Geometry
from tests.support.odd_files import (
    ALPHA,
    COLOR,
    GRAY,
    HEIGHT,
    UPRIGHT,
    WIDTH,
    OddFile,
    odd_files,
    oriented,
    saved,
)

LIMITS = Limits(max_body_bytes=16 * 2**20, max_pixels=50_000_000, max_images=16384)
TURNED = {
    2: GRAY[:, ::-1],
    3: GRAY[::-1, ::-1],
    4: GRAY[::-1],
    5: GRAY.T,
    6: np.rot90(GRAY, -1),
    7: GRAY[::-1, ::-1].T,
    8: np.rot90(GRAY),
}


def picture_of(content: bytes, geometry: Geometry = GEOMETRY) -> Picture:
    name = format_of(content[:START_BYTES])
    assert name is not None
    return read_picture(content, name, Budget(LIMITS, replace(FASHION_MNIST, geometry=geometry)))


@pytest.mark.parametrize("odd", list(odd_files()), ids=lambda odd: odd.name)
def test_an_odd_file_is_read_as_it_is_meant(odd: OddFile) -> None:
    picture = picture_of(odd.content)
    colors, expected = picture.pixels, odd.pixels
    if colors.ndim > expected.ndim:
        # A format, or a mode of it, that knows no gray.
        assert (colors == colors[:, :, :1]).all()
        colors = colors[:, :, 0]
    if picture.alpha is not None:
        # A color that nobody sees need not be kept.
        assert odd.alpha is not None
        np.testing.assert_array_equal(picture.alpha, odd.alpha)
        seen = odd.alpha > 0
        colors, expected = colors[seen], expected[seen]
    else:
        assert odd.alpha is None
    np.testing.assert_array_equal(colors, expected)
    assert picture.notes == odd.notes
    assert (picture.height, picture.width) == odd.pixels.shape[:2]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("JPEG", {"quality": 100}), ("WEBP", {"lossless": True})])
def test_a_picture_is_turned_upright_as_its_exif_says(format: str, options: dict[str, int], orientation: int) -> None:
    picture = picture_of(saved(GRAY, format, exif=oriented(orientation), **options))
    pixels = picture.pixels if picture.pixels.ndim == 2 else picture.pixels[:, :, 0]
    assert np.abs(pixels.astype(int) - TURNED[orientation]).max() <= 4
    assert picture.notes == [UPRIGHT]
    assert (picture.height, picture.width) == pixels.shape


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"subsampling": 0}], ids=str
)
def test_a_jpeg_is_read_as_pillow_reads_it(mode: str, options: dict[str, int]) -> None:
    content = saved(Image.fromarray(COLOR).convert(mode), "JPEG", **options)
    picture = picture_of(content)
    expected = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(picture.pixels, np.asarray(expected.convert("L" if mode == "L" else "RGB")))
    assert picture.notes == (["CMYK converted to RGB"] if mode == "CMYK" else [])


def test_what_cameras_append_to_a_jpeg_is_passed_over() -> None:
    content = saved(COLOR, "JPEG", exif=Image.Exif())
    expected = picture_of(content).pixels
    for behind in (b"SEFT" + bytes(100), saved(GRAY, "JPEG"), b"\0"):
        np.testing.assert_array_equal(picture_of(content + behind).pixels, expected)
    pair = saved(COLOR, "MPO", save_all=True, append_images=[Image.fromarray(COLOR[::-1])])
    np.testing.assert_array_equal(picture_of(pair).pixels, expected)


def test_an_avif_is_read_with_its_alpha_and_its_orientation() -> None:
    picture = picture_of(saved(np.dstack([COLOR, ALPHA]), "AVIF", quality=100, subsampling="4:4:4", speed=8))
    assert picture.alpha is not None
    assert np.abs(picture.alpha.astype(int) - ALPHA).max() <= 4
    assert np.abs(picture.pixels.astype(int) - COLOR)[ALPHA > 200].mean() <= 4
    turned = picture_of(saved(COLOR, "AVIF", quality=100, speed=8, exif=oriented(6)))
    assert (turned.height, turned.width) == (WIDTH, HEIGHT)
    assert turned.notes == [UPRIGHT]


def test_heic_is_read_where_its_library_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(COLOR)).save(file, quality=-1, chroma=444)
    picture = picture_of(file.getvalue())
    assert np.abs(picture.pixels.astype(int) - COLOR).mean() <= 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedMediaType, match="pillow-heif"):
        picture_of(file.getvalue())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("size", [(3000, 2000), (449, 100), (447, 30)])
def test_a_large_picture_is_reduced_to_what_is_needed(format: str, size: tuple[int, int]) -> None:
    ramp = Image.linear_gradient("L").resize(size, Image.Resampling.BILINEAR)
    picture = picture_of(saved(ramp, format))
    height, width = picture.pixels.shape[:2]
    assert 224 <= max(height, width) < 448
    assert (picture.width, picture.height) == size
    assert width / height == pytest.approx(size[0] / size[1], rel=0.05)
    expected = np.asarray(ramp.resize((width, height), Image.Resampling.BOX)).astype(int)
    pixels = picture.pixels if picture.pixels.ndim == 2 else picture.pixels[:, :, 0]
    assert np.abs(pixels - expected).max() <= 12


def test_a_transparent_picture_is_reduced_by_what_is_seen() -> None:
    image = np.full((1000, 1000, 4), 255, np.uint8)
    image[::2, :, :] = (0, 0, 0, 0)  # what is not seen is black, and must not darken the rest
    picture = picture_of(saved(image, "PNG"))
    assert picture.alpha is not None
    assert picture.pixels.min() >= 254
    assert np.abs(picture.alpha.astype(int) - 128).max() <= 2


def test_the_size_of_the_network_decides_what_is_needed() -> None:
    content = saved(Image.new("RGB", (2000, 1000), (10, 20, 30)), "PNG")
    assert picture_of(content, Geometry(3, 64, 64)).pixels.shape == (334, 667, 3)
    budget = Budget(LIMITS, replace(FASHION_MNIST, geometry=Geometry(1, 32, 48)), prepare="none")
    pixels, notes = decode_file(content, "PNG", budget)
    assert pixels.shape == (1, 32, 48)
    assert notes == ["converted to grayscale", "resized from 2000 x 1000"]


def test_every_file_of_pillows_formats_has_one_name(tmp_path: Path) -> None:
    for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"):
        assert format_of(saved(COLOR, format)[:START_BYTES]) == format
    assert format_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"
    assert format_of(bytes(START_BYTES)) is None
