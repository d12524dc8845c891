"""Decoding: the same pixels by every way in, and an error of its own for each bad image."""

import gzip
import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.PngImagePlugin import ChunkStream

from fashion_mnist.classes import GEOMETRY, IMAGE_BYTES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.decoding.bodies import decode, decode_many
from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.decoding.png import check
from fashion_mnist.encoding import encode_image, encode_picture
from fashion_mnist.errors import BodyTooLarge, CorruptImage, EmptyBody, InputError, TooManyImages, TooManyPixels
from fashion_mnist.task import FASHION_MNIST
from tests.support.bodies import OCTET_STREAM, Body, bad_bodies, good_bodies, png_chunk, png_of_size

LIMITS = Limits(max_body_bytes=16 * 2**20, max_pixels=16 * 2**20, max_images=16384)
GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
"""Noise: what is true of it is true of any image, and it can be had where tests are collected."""


@pytest.mark.parametrize("body", good_bodies(GARMENTS), ids=lambda body: body.name)
def test_the_same_pixels_by_every_way_in(body: Body) -> None:
    decoded = decode(body.content, body.content_type, LIMITS, FASHION_MNIST)
    assert len(decoded) == body.images
    assert not decoded.errors
    assert not decoded.adjusted
    expected = GARMENTS[:1].repeat(body.images, axis=0) if body.name == "base64, several" else GARMENTS[: body.images]
    np.testing.assert_array_equal(decoded.pixels, expected)


def test_a_real_image_survives_each_lossless_format(dataset: Dataset) -> None:
    for image in dataset.test.images[:100]:
        for kind, options in [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})]:
            decoded = decode(encode_image(image, kind, **options), "", LIMITS, FASHION_MNIST)
            np.testing.assert_array_equal(decoded.pixels[0], image)


def test_jpeg_gives_nearly_the_same_pixels(dataset: Dataset) -> None:
    image = dataset.test.images[0]
    decoded = decode(encode_image(image, "JPEG", quality=100), "image/jpeg", LIMITS, FASHION_MNIST)
    assert np.abs(decoded.pixels[0].astype(int) - image).max() <= 4
    assert not decoded.adjusted


@pytest.mark.parametrize("body", bad_bodies(GARMENTS[0]), ids=lambda body: body.name)
def test_bad_bodies_have_an_error_of_their_own(body: Body) -> None:
    # As bytearray, as TorchServe gives it.
    try:
        error = decode(bytearray(body.content), body.content_type, LIMITS, FASHION_MNIST).errors[0]
    except InputError as whole:
        error = whole
    assert error.code == body.code
    assert 400 <= error.status < 500
    assert error.message.isprintable()


def test_a_bad_body_among_others_fails_alone() -> None:
    bad = bad_bodies(GARMENTS[0])
    good = encode_image(GARMENTS[1])
    parts = [part for body in bad for part in ((body.content, body.content_type), (good, "image/png"))]
    decoded = decode_many(parts, LIMITS._replace(max_body_bytes=2**26), FASHION_MNIST)
    assert len(decoded) == 2 * len(bad)
    assert sorted(decoded.errors) == list(range(0, 2 * len(bad), 2))
    np.testing.assert_array_equal(decoded.pixels, GARMENTS[1:2].repeat(len(bad), axis=0))


def test_a_bad_instance_among_others_fails_alone() -> None:
    body = b'{"instances": [[1], %s, "@", null, {"b64": ""}]}' % str(GARMENTS[0].tolist()).encode()
    decoded = decode(body, "application/json", LIMITS, FASHION_MNIST)
    assert {place: error.code for place, error in decoded.errors.items()} == {
        0: "bad_pixels",
        2: "bad_json",
        3: "bad_json",
        4: "empty_body",
    }
    np.testing.assert_array_equal(decoded.pixels, GARMENTS[:1])


class TestOtherImages:
    """Images that are not 28 x 28 and grey are made so, also unprepared, and the answer says what was done."""

    def test_colour_turns_grey_as_the_eye_weighs_it(self) -> None:
        green = np.zeros((28, 28, 3), np.uint8)
        green[..., 1] = 200
        decoded = decode(encode_picture(green), "", LIMITS, FASHION_MNIST, prepare="none")
        assert decoded.adjusted == {0: ["converted to grayscale"]}
        # ITU-R BT.601: green counts 0.587.
        assert np.abs(decoded.pixels.astype(int) - round(200 * 0.587)).max() <= 1

    def test_transparent_pixels_are_black(self) -> None:
        image = np.full((28, 28, 4), 255, np.uint8)
        image[:14, :, 3] = 0
        decoded = decode(encode_picture(image), "", LIMITS, FASHION_MNIST)
        assert (decoded.pixels[0, 0, :14] == 0).all()
        assert (decoded.pixels[0, 0, 14:] == 255).all()
        assert "transparency laid over black" in decoded.adjusted[0]

    def test_sixteen_bits_are_cut_to_eight(self) -> None:
        decoded = decode(encode_image(GARMENTS[0].astype(np.uint16) * 257), "", LIMITS, FASHION_MNIST)
        np.testing.assert_array_equal(decoded.pixels[0], GARMENTS[0])
        assert decoded.adjusted == {0: ["16 bits a channel reduced to 8"]}

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
    @pytest.mark.parametrize(("height", "width"), [(280, 280), (14, 14), (56, 28), (1, 1000), (29, 27)])
    def test_another_size_is_fitted_and_centred(self, kind: str, height: int, width: int) -> None:
        decoded = decode(
            encode_image(np.full((height, width), 255, np.uint8), kind), "", LIMITS, FASHION_MNIST, prepare="none"
        )
        assert decoded.adjusted[0][-1] == f"resized from {width} x {height}"
        rows, columns = np.nonzero(decoded.pixels[0, 0] > 128)
        scale = 28 / max(height, width)
        assert np.ptp(rows) + 1 == max(1, round(height * scale))
        assert np.ptp(columns) + 1 == max(1, round(width * scale))
        assert abs(rows.min() - (27 - rows.max())) <= 1
        assert abs(columns.min() - (27 - columns.max())) <= 1

    def test_a_jpeg_is_turned_upright_as_its_exif_says(self) -> None:
        image = np.zeros((28, 28), np.uint8)
        image[:14] = 255
        jpeg = encode_image(image, "JPEG")
        upside_down = struct.pack(">2sHI HHHIHH I", b"MM", 42, 8, 1, 0x0112, 3, 1, 3, 0, 0)
        exif = b"Exif\0\0" + upside_down
        turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
        assert (decode(turned, "", LIMITS, FASHION_MNIST).pixels[0, 0, :14] < 50).all()


class TestLimits:
    """Each limit is a setting, and holds for all parts of a request together."""

    def test_bytes(self) -> None:
        limits = LIMITS._replace(max_body_bytes=IMAGE_BYTES)
        assert len(decode(bytes(IMAGE_BYTES), "", limits, FASHION_MNIST)) == 1
        with pytest.raises(BodyTooLarge, match="785"):
            decode(bytes(IMAGE_BYTES + 1), "", limits, FASHION_MNIST)
        with pytest.raises(BodyTooLarge):
            decode_many([(bytes(IMAGE_BYTES), ""), (b"1", "")], limits, FASHION_MNIST)

    @pytest.mark.parametrize("kind", ["raw", "json"])
    def test_images(self, kind: str) -> None:
        limits = LIMITS._replace(max_images=2)
        content = GARMENTS.tobytes() if kind == "raw" else str(GARMENTS.tolist()).encode()
        media_type = OCTET_STREAM if kind == "raw" else "application/json"
        with pytest.raises(TooManyImages, match="2"):
            decode(content, media_type, limits, FASHION_MNIST)

    def test_images_of_a_form(self) -> None:
        with pytest.raises(TooManyImages):
            decode_many([(encode_image(GARMENTS[0]), "")] * 3, LIMITS._replace(max_images=2), FASHION_MNIST)

    def test_pixels(self) -> None:
        limits = LIMITS._replace(max_pixels=100 * 100)
        assert len(decode(png_of_size(100, 100), "", limits, FASHION_MNIST)) == 1
        with pytest.raises(TooManyPixels, match="101 x 100"):
            decode(png_of_size(101, 100), "", limits, FASHION_MNIST)

    def test_many_small_bombs_are_one_big_one(self) -> None:
        limits = LIMITS._replace(max_pixels=1000 * 1000)
        decoded = decode_many([(png_of_size(600, 600), "")] * 4, limits, FASHION_MNIST)
        assert [decoded.errors[place].code for place in sorted(decoded.errors)] == ["too_many_pixels"] * 2

    def test_many_gzip_bombs_are_one_big_one(self) -> None:
        packed = zlib.compress(bytes(IMAGE_BYTES * 100), wbits=31)
        limits = LIMITS._replace(max_body_bytes=IMAGE_BYTES * 250)
        decoded = decode_many([(packed, "")] * 4, limits, FASHION_MNIST)
        assert len(decoded.pixels) == 200
        assert {error.code for error in decoded.errors.values()} == {"body_too_large"}

    def test_an_oversized_header_is_refused_before_decoding(self) -> None:
        small = GARMENTS[0]
        for content in (
            encode_image(small, "JPEG").replace(struct.pack(">HH", 28, 28), struct.pack(">HH", 60000, 60000)),
            encode_image(np.zeros((5000, 5000), np.uint8), "WEBP", lossless=True),
            encode_image(small, "BMP").replace(struct.pack("<II", 28, 28), struct.pack("<II", 30000, 30000)),
            encode_image(small, "GIF").replace(struct.pack("<HH", 28, 28), struct.pack("<HH", 60000, 60000)),
            encode_image(np.zeros((5000, 5000), np.uint8), "TIFF", compression="tiff_lzw"),
            encode_picture(np.zeros((3000, 3000, 3), np.uint8), "AVIF", speed=10),
        ):
            with pytest.raises(TooManyPixels):
                decode(content, "", LIMITS, FASHION_MNIST)


@given(
    content=st.binary(max_size=2000)
    | st.sampled_from([body.content for body in good_bodies(GARMENTS)]).flatmap(
        # Real bodies, cut and with one byte changed: deeper than random bytes reach.
        lambda body: st.tuples(st.integers(0, len(body)), st.integers(0, 255), st.integers(0, len(body))).map(
            lambda cut: body[: cut[0]] + bytes([cut[1]]) + body[cut[0] + 1 : max(cut[0] + 1, cut[2])]
        )
    ),
    content_type=st.sampled_from(["", OCTET_STREAM, "image/png", "application/json", "text/plain", "application/x-idx"])
    | st.text(max_size=20),
)
def test_any_bytes_are_images_or_an_error_of_the_tree(content: bytes, content_type: str) -> None:
    try:
        decoded = decode(content, content_type, LIMITS, FASHION_MNIST)
    except EmptyBody:
        assert not content.strip(b'"\\ntr \t\r\n')  # or a JSON string of nothing
    except InputError as error:
        assert 400 <= error.status < 500
        assert error.message
    else:
        assert isinstance(decoded, Decoded)
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape[1:] == GEOMETRY
        assert len(decoded) > 0


@given(st.integers(1, 5).flatmap(lambda count: st.binary(min_size=IMAGE_BYTES * count, max_size=IMAGE_BYTES * count)))
def test_raw_pixels_are_taken_as_they_are(content: bytes) -> None:
    decoded = decode(content, OCTET_STREAM, LIMITS, FASHION_MNIST)
    assert decoded.pixels.tobytes() == content


def test_packed_texts_in_a_png_are_not_unpacked(limits: Limits) -> None:
    """Each would be unpacked to a megabyte, thousands of them in one file: Pillow does not get to see them."""
    png = encode_image(GARMENTS[0])
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))
    profile = png_chunk(b"iCCP", b"Profile\0\0" + zlib.compress(bytes(1_000_000)))
    for bomb in (png[:33] + (text + profile) * 50 + png[33:], png[:-12] + (text + profile) * 50 + png[-12:]):
        checked = check(bomb, ChunkStream(io.BytesIO(bomb)))
        assert checked.content == png
        np.testing.assert_array_equal(decode(bomb, "", limits, FASHION_MNIST).pixels[0], GARMENTS[0])


def test_gzip_with_more_behind_its_end_is_refused(limits: Limits) -> None:
    packed = gzip.compress(bytes(784))
    with pytest.raises(CorruptImage, match="one stream"):
        decode(packed * 2, "application/gzip", limits, FASHION_MNIST)


def test_gzip_up_to_the_limit_is_unpacked() -> None:
    exactly = Limits(max_body_bytes=784 * 3, max_pixels=784, max_images=3)
    assert len(decode(gzip.compress(bytes(784 * 3)), "application/gzip", exactly, FASHION_MNIST)) == 3


@pytest.mark.parametrize("bad", [[], None, "@", [[1, 2]], [0] * 783])
def test_a_bad_image_fails_alone_wherever_it_stands(limits: Limits, bad: object) -> None:
    for document in ([bad, GARMENTS[0].tolist()], [GARMENTS[0].tolist(), bad]):
        decoded = decode(json.dumps(document).encode(), "application/json", limits, FASHION_MNIST)
        assert len(decoded) == 2
        assert list(decoded.errors) == [document.index(bad)]
