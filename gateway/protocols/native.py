"""Our own protocol, TorchServe's path: any body to `/predictions/fashion_mnist`; docs/bodies.md describes it."""

from typing import Final
from urllib.parse import parse_qsl

from fashion_mnist.errors import BadMultipart, BadParameter
from fashion_mnist.images import Decoded, decode, decode_many, is_plain
from fashion_mnist.limits import Limits
from fashion_mnist.predictions import OCTET_STREAM, Answer, Form, Probabilities, answer, parse_top_k
from gateway import forms
from gateway.connection import Request
from gateway.protocols import MODEL

PATH: Final = f"/predictions/{MODEL}".encode()

_JSON: Final = Form()
_OCTETS: Final = Form(octets=True)


class Native:
    """See `gateway.protocols.Speaker`. A bad image has its error in its place of the answer."""

    def __init__(self, model_version: str) -> None:
        self._model_version = model_version

    def is_plain(self, request: Request) -> bool:
        return is_plain(request.body, request.content_type)

    def read(self, request: Request, limits: Limits) -> tuple[Form, Decoded]:
        query = request.url.partition(b"?")[2]
        content_type = request.content_type
        top_k = (query and _top_k(query.decode("latin-1"))) or request.top_k
        if content_type[:10].lower() == "multipart/":
            fields = forms.parse(request.body, content_type, limits)
            if in_form := [field for field in fields if field.name == "top_k"]:
                fields = [field for field in fields if field.name != "top_k"]
                in_field = in_form[0].content.decode("latin-1")
                parse_top_k(in_field)  # wrong is wrong, even where another one wins
                top_k = top_k or in_field
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

    def write(self, probabilities: Probabilities, decoded: Decoded, form: Form) -> Answer:
        return answer(probabilities, decoded, self._model_version, form)


def _top_k(query: str) -> str:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    top_k = parameters.pop("top_k", "")
    if parameters:
        raise BadParameter(f"unknown parameter {next(iter(parameters))[:40]!r}: there is top_k")
    return top_k
