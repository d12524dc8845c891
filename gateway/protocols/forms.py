"""Multipart forms and the files in them."""

from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import BadMultipart, TooManyImages

_MAX_BOUNDARY: Final = 200


class Field:
    """One field of a form."""

    __slots__ = ("content", "content_type", "name")

    def __init__(self) -> None:
        self.name = ""
        self.content_type = ""
        self.content = b""


def parse(body: bytes, content_type: str, limits: Limits) -> list[Field]:
    """The fields of a form, in order. `content_type` is the request's, which contains the boundary.

    Raises BadMultipart if the form is invalid, and TooManyImages if it has more fields than a request may have images.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary or len(boundary) > _MAX_BOUNDARY:
        raise BadMultipart("the content type has no boundary: let your HTTP library create the form")
    fields: list[Field] = []
    header: list[bytes] = [b"", b""]
    chunks: list[bytes] = []
    ended = False

    def begin() -> None:
        if len(fields) > limits.max_images:
            raise TooManyImages(f"more than {limits.max_images:,} fields in one form: split it")
        fields.append(Field())
        chunks.clear()

    def header_name(data: bytes, start: int, end: int) -> None:
        header[0] += data[start:end]

    def header_value(data: bytes, start: int, end: int) -> None:
        header[1] += data[start:end]

    def header_end() -> None:
        name, value = header[0].lower(), header[1]
        header[:] = [b"", b""]
        if name == b"content-disposition":
            fields[-1].name = parse_options_header(value)[1].get(b"name", b"").decode("latin-1")
        elif name == b"content-type":
            fields[-1].content_type = value.decode("latin-1")

    def content(data: bytes, start: int, end: int) -> None:
        chunks.append(data[start:end])

    def field_end() -> None:
        fields[-1].content = b"".join(chunks)

    def form_end() -> None:
        nonlocal ended
        ended = True

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_header_field": header_name,
            "on_header_value": header_value,
            "on_header_end": header_end,
            "on_part_data": content,
            "on_part_end": field_end,
            "on_end": form_end,
        },
    )
    try:
        parser.write(body)
    except FormParserError as error:
        raise BadMultipart(f"the form is invalid ({str(error)[:100]}): let your HTTP library create it") from None
    if not ended:
        raise BadMultipart("the form is truncated, its last boundary is missing: send it completely")
    return fields
