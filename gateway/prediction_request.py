"""What a request to `/predictions/fashion_mnist` asks for: its images, and the form of its answer."""

import functools
from typing import Final
from urllib.parse import parse_qsl

from fashion_mnist.errors import BadMultipart, BadParameter, BodyTooLarge, TooManyPixels
from fashion_mnist.images import Decoded, decode, decode_many, is_plain
from fashion_mnist.limits import Limits
from fashion_mnist.predictions import OCTET_STREAM, Form, parse_top_k
from gateway import forms
from gateway.connection import Request

QUICK_BYTES: Final = 16 * 1024
QUICK_PIXELS: Final = 64 * 1024

_JSON: Final = Form()
_OCTETS: Final = Form(octets=True)


def read_quickly(request: Request, limits: Limits) -> tuple[Form, Decoded] | None:
    """Read a request, unless other requests would have to wait for that: then None, and `read` belongs in a thread.

    What is quick is found out with small limits, because a short body may hold a large image. Raises InputError.
    """
    if len(request.body) > QUICK_BYTES:
        return read(request, limits) if is_plain(request.body, request.content_type) else None
    try:
        found = read(request, _small(limits))
    except (BodyTooLarge, TooManyPixels):
        return None
    errors = found[1].errors
    if errors and any(isinstance(error, BodyTooLarge | TooManyPixels) for error in errors.values()):
        return None
    return found


@functools.cache
def _small(limits: Limits) -> Limits:
    return limits._replace(
        max_body_bytes=min(QUICK_BYTES, limits.max_body_bytes), max_pixels=min(QUICK_PIXELS, limits.max_pixels)
    )


def read(request: Request, limits: Limits) -> tuple[Form, Decoded]:
    """The form of the answer, and the images. Raises InputError where the request as a whole is at fault."""
    query = request.url.partition(b"?")[2]
    content_type = request.content_type
    top_k = (query and _top_k(query.decode("latin-1"))) or request.top_k
    if content_type[:10].lower() == "multipart/":
        fields = forms.parse(request.body, content_type, limits)
        if in_form := [field for field in fields if field.name == "top_k"]:
            fields = [field for field in fields if field.name != "top_k"]
            top_k = top_k or in_form[0].content.decode("latin-1")
        if not fields:
            raise BadMultipart("the form has no field with an image: send -F image=@FILE, as many as you like")
        if len(fields) == 1:
            decoded = decode(fields[0].content, fields[0].content_type, limits)
        else:
            decoded = decode_many([(field.content, field.content_type) for field in fields], limits)
    else:
        if content_type[:33].lower() == "application/x-www-form-urlencoded":
            # What curl says of --data-binary unless it is told better: it says nothing about the body.
            content_type = ""
        decoded = decode(request.body, content_type, limits)
    form = _OCTETS if OCTET_STREAM in request.accept else _JSON
    return (form._replace(top_k=parse_top_k(top_k)) if top_k else form), decoded


def _top_k(query: str) -> str:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    top_k = parameters.pop("top_k", "")
    if parameters:
        raise BadParameter(f"unknown parameter {next(iter(parameters))[:40]!r}: there is top_k")
    return top_k
