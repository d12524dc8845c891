"""What a request to `/predictions/fashion_mnist` asks for: its images, and the form of its answer."""

from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from fashion_mnist.errors import BadMultipart, BadParameter, BodyTooLarge, TooManyPixels
from fashion_mnist.images import Bytes, Decoded, decode, decode_many, is_plain
from fashion_mnist.limits import Limits
from fashion_mnist.predictions import OCTET_STREAM, Form, parse_top_k
from gateway import forms
from gateway.connection import Head

QUICK_BYTES: Final = 16 * 1024
QUICK_PIXELS: Final = 64 * 1024


class Wanted(NamedTuple):
    """What a head says: how the body is to be read, and how to answer."""

    content_type: str
    form: Form
    is_multipart: bool = False
    names_top_k: bool = False
    """Whether it said how many classes; a field of a form may do so too."""


def understand(head: Head) -> Wanted:
    """What a request with this head wants. Raises BadParameter."""
    query = head.url.partition(b"?")[2]
    top_k = (query and _top_k(query.decode("latin-1"))) or head.top_k
    form = Form(octets=OCTET_STREAM in head.accept)
    if top_k:
        form = form._replace(top_k=parse_top_k(top_k))
    content_type = head.content_type
    if content_type[:33].lower() == "application/x-www-form-urlencoded":
        # What curl says of --data-binary unless it is told better: it says nothing about the body.
        content_type = ""
    return Wanted(content_type, form, content_type[:10].lower() == "multipart/", bool(top_k))


def read(wanted: Wanted, body: Bytes, limits: Limits) -> tuple[Form, Decoded]:
    """The form of the answer, and the images. Raises InputError where the request as a whole is at fault."""
    if not wanted.is_multipart:
        return wanted.form, decode(body, wanted.content_type, limits)
    form = wanted.form
    fields = forms.parse(bytes(body), wanted.content_type, limits)
    if in_form := [field for field in fields if field.name == "top_k"]:
        fields = [field for field in fields if field.name != "top_k"]
        if not wanted.names_top_k:
            form = form._replace(top_k=parse_top_k(in_form[0].content.decode("latin-1")))
    if not fields:
        raise BadMultipart("the form has no field with an image: send -F image=@FILE, as many as you like")
    if len(fields) == 1:
        return form, decode(fields[0].content, fields[0].content_type, limits)
    return form, decode_many([(field.content, field.content_type) for field in fields], limits)


def read_quickly(wanted: Wanted, body: Bytes, limits: Limits, quick: Limits) -> tuple[Form, Decoded] | None:
    """Read a request, unless other requests would have to wait for that: then None, and `read` belongs in a thread.

    What is quick is found out with `quick_limits`, because a short body may hold a large image. Raises InputError.
    """
    if len(body) > QUICK_BYTES:
        return read(wanted, body, limits) if is_plain(body, wanted.content_type) else None
    try:
        found = read(wanted, body, quick)
    except (BodyTooLarge, TooManyPixels):
        return None
    errors = found[1].errors
    if errors and any(isinstance(error, BodyTooLarge | TooManyPixels) for error in errors.values()):
        return None
    return found


def quick_limits(limits: Limits) -> Limits:
    """Within these, reading a request takes less than the way to a thread and back."""
    return limits._replace(
        max_body_bytes=min(QUICK_BYTES, limits.max_body_bytes), max_pixels=min(QUICK_PIXELS, limits.max_pixels)
    )


def _top_k(query: str) -> str:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    top_k = parameters.pop("top_k", "")
    if parameters:
        raise BadParameter(f"unknown parameter {next(iter(parameters))[:40]!r}: there is top_k")
    return top_k
