"""Images in JSON: nested pixel lists, base64 strings, and TensorFlow Serving's and KServe's `{"instances": [...]}`.

All protocols parse JSON here.
"""

import base64
import binascii
import json
import re
import string
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from fashion_mnist.decoding.decoded import Bytes, Decoded, join
from fashion_mnist.decoding.limits import Budget
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import BadJSON, BadPixels
from fashion_mnist.task import Geometry

try:
    from orjson import loads as _loads
except ImportError:
    # In a TorchServe without our packages, which runs only the archive.
    def _loads(content: bytes) -> Any:  # type: ignore[misc]
        # RFC 8259 has neither NaN nor infinity.
        return json.loads(content, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


FORMS: Final = (
    "the rows of an image as integers from 0 to 255, a base64 string of an image file, a list of these, "
    'or {"instances": [...]}'
)

MAX_LISTS: Final = 250_000
"""Lists and objects of one document, which take more memory than their text. Images need far fewer."""

MAX_VALUES: Final = 1_000_000
"""Values of one document. Parsing holds the GIL for some 60 ms; 1,250 images have fewer pixels."""

MAX_NAMES: Final = 50_000
"""Names of values in one document; 16,384 images with one each have fewer."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

DecodeImage: TypeAlias = Callable[[Bytes, Budget], Decoded]
"""Decodes the bytes of a base64 string."""

_BLANKS: Final = re.compile(r"\s+")
_ALPHABET: Final = string.ascii_letters + string.digits + "+/"


def decode_json(body: Bytes, decode_image: DecodeImage, budget: Budget) -> Decoded:
    """Decode a JSON body in any of `FORMS`. An invalid image among several fails separately.

    Raises BadJSON if the body is not JSON or has an unknown form, and the image's own error if there is only one.
    """
    document = parse(body)
    if isinstance(document, dict) and "instances" in document:
        return decode_instances(document["instances"], decode_image, budget)
    if _is_one_image(document, budget.geometry):
        return _decode_instance(document, decode_image, budget)
    return decode_instances(document, decode_image, budget)


def parse(body: Bytes, forms: str = FORMS) -> Any:
    """Parse a JSON document. Raises BadJSON, whose message says to send `forms`."""
    content = bytes(body).removeprefix(BYTE_ORDER_MARK)
    # Parsing blocks all other requests: count first what takes disproportionate time.
    if len(content) > MAX_NAMES:
        if content.count(b"[") + content.count(b"{") > MAX_LISTS:
            raise BadJSON(f"more than {MAX_LISTS:,} lists and objects in the JSON: send fewer images, or {forms}")
        if content.count(b",") > MAX_VALUES:
            raise BadJSON(f"more than {MAX_VALUES:,} values in the JSON: send fewer images, or bytes or base64")
        if content.count(b":") > MAX_NAMES:
            raise BadJSON(f"more than {MAX_NAMES:,} names in the JSON: send fewer images, or {forms}")
    try:
        return _loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadJSON(f"the body is not JSON ({reason[:120]}): send {forms}") from None


def decode_instances(instances: Any, decode_image: DecodeImage, budget: Budget) -> Decoded:
    """Decode a list of images; each fails separately. Raises BadJSON if it is empty or no list; TooManyImages."""
    if not isinstance(instances, list):
        raise BadJSON('"instances" must be a list of images')
    if not instances:
        raise BadJSON(f"the list of images is empty: send {FORMS}")
    budget.check_images(len(instances))
    return join(instances, lambda instance: _decode_instance(instance, decode_image, budget), budget)


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 string or data URL, with or without line breaks and padding, in either alphabet.

    Raises BadJSON.
    """
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    # Nearly all strings need no cleaning.
    if len(text) % 4 or not text.isascii() or text[-1:].isspace() or "\n" in text or "-" in text or "_" in text:
        text = _BLANKS.sub("", text).replace("-", "+").replace("_", "/").rstrip("=")
        text += "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadJSON(_why_not_base64(text)) from None


def pixel_bytes(values: list[Any]) -> bytes:
    """Pixel values of a flat list as bytes. Raises BadPixels unless all are integers from 0 to 255."""
    if not set(map(type, values)) <= {int}:
        raise BadPixels("pixels must be integers from 0 to 255, without a decimal point, NaN, null or strings")
    try:
        return bytes(values)
    except (ValueError, OverflowError):
        wrong = next(value for value in values if not 0 <= value <= 255)
        shown = str(wrong) if abs(wrong) < 10**12 else "a number with many digits"
        raise BadPixels(f"a pixel is {shown}: pixels must be from 0 to 255") from None


def _why_not_base64(text: str) -> str:
    wrong = text.rstrip("=").lstrip(_ALPHABET)
    reason = f"it contains {wrong[0]!r}" if wrong else "it is truncated"
    return f"a string is not base64 ({reason}): send {FORMS}"


def _is_one_image(document: Any, geometry: Geometry) -> bool:
    """Whether the document is one image rather than a list of images. Lengths distinguish a flat image from a row."""
    length = geometry.image_bytes
    if not isinstance(document, list):
        return True
    if not document:
        return False
    if all(isinstance(value, list) for value in document):
        if geometry.channels > 1:
            return _is_one_color_image(document, geometry)
        # Rows of numbers; a list that is closer to an image's length than to a row's is an invalid image.
        return all(len(row) < length // 2 and not any(isinstance(value, list) for value in row) for row in document)
    return all(isinstance(value, int | float) for value in document)


def _is_one_color_image(document: list[list[Any]], geometry: Geometry) -> bool:
    """Whether lists of lists are the planes of one image, and not images: their lists are rows of numbers."""
    planes = all(all(isinstance(row, list) for row in plane) for plane in document)
    return planes and not any(isinstance(value, list) for plane in document for row in plane for value in row)


def _decode_instance(instance: Any, decode_image: DecodeImage, budget: Budget) -> Decoded:
    # {"b64": "..."} marks bytes in TensorFlow Serving; {"image": ...} and the like name the only input.
    while isinstance(instance, dict) and len(instance) == 1:
        (instance,) = instance.values()
    if isinstance(instance, str):
        return decode_image(decode_base64(instance), budget)
    if isinstance(instance, list):
        return Decoded(_pixels(instance, budget))
    raise BadJSON(f"an image cannot be a JSON {_kind(instance)}: send {FORMS}")


def _pixels(instance: list[Any], budget: Budget) -> Pixels:
    """One image's pixel lists as uint8 [1, channels, height, width].

    They are [channels][height][width], one flat list, or, for a single channel, [height][width].

    Lengths and types are checked first, because NumPy accepts anything, and with one long string among the numbers
    it would allocate as much memory for each of them.
    """
    channels, height, width = budget.geometry
    rows = instance
    if len(rows) == channels and all(isinstance(plane, list) and len(plane) == height for plane in rows):
        rows = [row for plane in rows for row in plane]
    if len(rows) == channels * height and all(isinstance(row, list) and len(row) == width for row in rows):
        rows = [value for row in rows for value in row]
    length = channels * height * width
    if len(rows) != length or any(isinstance(value, list) for value in rows):
        planes = "" if channels == 1 else f"{channels} lists of "
        raise BadPixels(f"the pixel lists are neither {planes}{height} rows of {width} values nor one list of {length}")
    return np.frombuffer(pixel_bytes(rows), np.uint8).reshape(1, channels, height, width)


def _kind(value: Any) -> str:
    names = {dict: "object", bool: "boolean", type(None): "null", int: "number", float: "number"}
    return names.get(type(value), "value")
