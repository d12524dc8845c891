"""JSON: one reader for all protocols, which takes what people's encoders write."""

import base64
import io
import json
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.decoding import decoded
from fashion_mnist.decoding.bodies import decode, decode_many
from fashion_mnist.decoding.json_bodies import MAX_LISTS, MAX_NAMES, MAX_VALUES, decode_base64, parse
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.encoding import encode_image
from fashion_mnist.errors import BadArray, BadJSON
from fashion_mnist.task import FASHION_MNIST
from tests.support.bodies import npy

GARMENT = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
PNG = encode_image(GARMENT)


def ways_to_write(content: bytes) -> list[str]:
    """What encoders make of bytes: in lines, without padding, in the alphabet for addresses, as a data URL."""
    text = base64.b64encode(content).decode()
    lines = "\r\n".join(textwrap.wrap(text, 76))
    safe = base64.urlsafe_b64encode(content).decode()
    url = f"data:image/png;base64,{text}"
    return [
        text,
        lines,
        f" {text}\n",
        text.rstrip("="),
        safe,
        safe.rstrip("="),
        url,
        url.replace("data", "DATA"),
        url.rstrip("="),
    ]


@pytest.mark.parametrize("text", ways_to_write(PNG))
def test_base64_is_taken_as_encoders_write_it(text: str, limits: Limits) -> None:
    np.testing.assert_array_equal(decode(json.dumps([text]).encode(), "", limits, FASHION_MNIST).pixels[0], GARMENT)


@given(st.binary(max_size=60))
def test_every_way_to_write_bytes_gives_them_back(content: bytes) -> None:
    for text in ways_to_write(content):
        assert decode_base64(text) == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [("@@@@", "contains '@'"), ("abcde", "truncated"), ("ab=c", "contains '='"), ("äöü", "contains 'ä'")],
)
def test_what_is_not_base64_is_said_in_our_own_words(text: str, reason: str) -> None:
    with pytest.raises(BadJSON, match=reason) as refused:
        decode_base64(text)
    assert "Python" not in refused.value.message
    assert "padding" not in refused.value.message


@pytest.mark.parametrize("content_type", ["application/json", ""])
def test_a_byte_order_mark_is_passed_over(content_type: str, limits: Limits) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(GARMENT.tolist()).encode()
    np.testing.assert_array_equal(decode(body, content_type, limits, FASHION_MNIST).pixels[0], GARMENT)


def test_a_text_that_costs_more_than_its_bytes_is_refused_before_it_is_read() -> None:
    names = b'{"instances": [' + b",".join(b'{"%d": 1}' % place for place in range(MAX_NAMES)) + b"]}"
    with pytest.raises(BadJSON, match="names"):
        parse(names)
    with pytest.raises(BadJSON, match="lists"):
        parse(b"[" + b",".join([b"[]"] * MAX_LISTS) + b"]")
    with pytest.raises(BadJSON, match="values"):
        parse(b"[" + b"0," * (MAX_VALUES + 1) + b"0]")


@pytest.mark.parametrize(
    "body", [b"[NaN]", b"[Infinity]", b"[1, 2", b"\xff\xfe[\0]\0", b"[" * 100_000 + b"]" * 100_000]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadJSON, match="not JSON"):
        parse(body)


@pytest.mark.parametrize(
    "shape", ["(True, 28, 28)", f"(0x{'f' * 5000}, 28, 28)", "(-1, 28, 28)", "(10**3, 28, 28)", "([], 28, 28)"]
)
def test_a_shape_of_something_else_than_lengths_is_refused(shape: str, limits: Limits) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + GARMENT.tobytes()
    with pytest.raises(BadArray):
        decode(content, "", limits, FASHION_MNIST)
    # Among others it fails alone.
    body = json.dumps([base64.b64encode(part).decode() for part in (PNG, content, PNG)]).encode()
    among = decode(body, "application/json", limits, FASHION_MNIST)
    assert {place: error.code for place, error in among.errors.items()} == {1: "bad_array"}


def test_an_unexpected_failure_is_that_parts_alone(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fashion_mnist.decoding.bodies.npy_images", fails)
    found = decode_many([(PNG, ""), (npy(GARMENT), ""), (PNG, "")], limits, FASHION_MNIST)
    assert {place: error.code for place, error in found.errors.items()} == {1: "corrupt_image"}
    assert len(found.pixels) == 2


def test_nothing_is_of_the_networks_size() -> None:
    assert decoded.nothing(GEOMETRY).pixels.shape == (0, 1, 28, 28)
    assert io.BytesIO(npy(GARMENT)).read(6) == b"\x93NUMPY"
