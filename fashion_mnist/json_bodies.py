"""Images in JSON: nested pixel lists, base64 strings, and TF-Serving's and KServe's `{"instances": [...]}`."""

import base64
import binascii
import json
from typing import Any, Final

import numpy as np

from fashion_mnist import images
from fashion_mnist.classes import GEOMETRY, IMAGE_BYTES
from fashion_mnist.errors import BadJSON, BadPixels
from fashion_mnist.image_files import Pixels
from fashion_mnist.limits import Budget

FORMS: Final = (
    "28 rows of 28 whole numbers from 0 to 255, a base64 string of an image file, a list of these, "
    'or {"instances": [...]}'
)

MOST_LISTS: Final = 250_000
"""Of one text. Reading it holds all other requests, for 0.2 s with so many; 8,000 images of 28 rows have fewer."""


def decode_json(body: images.Bytes, budget: Budget) -> images.Decoded:
    """Decode a JSON body of any of `FORMS`. A bad image among several fails alone.

    Raises BadJSON where the text is not JSON or of no known form, and the image's own error where there is just one.
    """
    document = parse(body)
    if isinstance(document, dict) and "instances" in document:
        return decode_instances(document["instances"], budget)
    if _is_one_image(document):
        return _decode_instance(document, budget)
    return decode_instances(document, budget)


def parse(body: images.Bytes, forms: str = FORMS) -> Any:
    """What a JSON text says. Raises BadJSON, whose message says to send `forms`."""
    content = bytes(body)
    check_lists(content, forms)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise BadJSON(f"the body is not JSON ({reason[:120]}): send {forms}") from None


def check_lists(content: bytes, forms: str) -> None:
    """Raise BadJSON where a text has more lists and objects than images need: each takes more than its letters do."""
    if len(content) > MOST_LISTS and content.count(b"[") + content.count(b"{") > MOST_LISTS:
        raise BadJSON(f"more than {MOST_LISTS:,} lists and objects in it: send fewer images at once, or {forms}")


def decode_instances(instances: Any, budget: Budget) -> images.Decoded:
    """Decode a list of images; a bad one fails alone. Raises BadJSON where it is no list, or empty; TooManyImages."""
    if not isinstance(instances, list):
        raise BadJSON('"instances" must be a list of images')
    if not instances:
        raise BadJSON(f"no images in it: send {FORMS}")
    budget.check_images(len(instances))
    return images.join(instances, lambda instance: _decode_instance(instance, budget), budget)


def _is_one_image(document: Any) -> bool:
    """Whether the document is one image rather than a list of them. A flat image and a row are told by length."""
    if not isinstance(document, list):
        return True
    if not document:
        return False
    if all(isinstance(value, list) for value in document):
        # Rows of numbers; what is nearer to a whole image in length than to a row is one that went wrong.
        return all(
            len(row) < IMAGE_BYTES // 2 and not any(isinstance(value, list) for value in row) for row in document
        )
    return all(isinstance(value, int | float) for value in document)


def _decode_instance(instance: Any, budget: Budget) -> images.Decoded:
    # {"b64": "..."} is TF-Serving's way to mark bytes; {"image": ...} and the like name the only input.
    while isinstance(instance, dict) and len(instance) == 1:
        (instance,) = instance.values()
    if isinstance(instance, str):
        return images.decode_image(decode_base64(instance), budget)
    if isinstance(instance, list):
        return images.Decoded(_pixels(instance))
    raise BadJSON(f"an image cannot be a JSON {_kind(instance)}: send {FORMS}")


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 string or data URL. Raises BadJSON."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadJSON(f"a string that is not base64 ({str(error)[:80]}): send {FORMS}") from None


def _pixels(instance: list[Any]) -> Pixels:
    """One image's pixel lists, [28][28], [1][28][28] or [784], as uint8 [1, 28, 28].

    Lengths and types are checked before anything is made of them: NumPy would take whatever it is given, and for one
    long string among the numbers as much memory as for all of them.
    """
    rows = instance[0] if len(instance) == 1 and isinstance(instance[0], list) else instance
    if len(rows) == GEOMETRY.height and all(isinstance(row, list) and len(row) == GEOMETRY.width for row in rows):
        rows = [value for row in rows for value in row]
    if len(rows) != IMAGE_BYTES or any(isinstance(value, list) for value in rows):
        raise BadPixels(
            f"the pixel lists are not {GEOMETRY.height} rows of {GEOMETRY.width} values, nor {IMAGE_BYTES} in one list"
        )
    return np.frombuffer(pixel_bytes(rows), np.uint8).reshape(1, GEOMETRY.height, GEOMETRY.width)


def pixel_bytes(values: list[Any]) -> bytes:
    """Pixel values in one list as bytes. Raises BadPixels where one is no whole number from 0 to 255."""
    if not set(map(type, values)) <= {int}:
        raise BadPixels("pixels must be whole numbers from 0 to 255, without a decimal point, NaN, null or text")
    try:
        return bytes(values)
    except (ValueError, OverflowError):
        wrong = next(value for value in values if not 0 <= value <= 255)
        shown = str(wrong) if abs(wrong) < 10**12 else "a number of many digits"
        raise BadPixels(f"a pixel is {shown}: pixels must be from 0 to 255") from None


def _kind(value: Any) -> str:
    names = {dict: "object", bool: "true or false", type(None): "null", int: "number", float: "number"}
    return names.get(type(value), "value")
