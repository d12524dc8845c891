"""One request of a TorchServe batch: from its dictionary of fields to the answer's bytes."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from fashion_mnist.decoding.bodies import KINDS, decode, decode_many
from fashion_mnist.decoding.decoded import Decoded, nothing
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import (
    BadMultipart,
    BadParameter,
    EmptyBody,
    FashionMNISTError,
    InputError,
    UnsupportedMediaType,
)
from fashion_mnist.handler_interface.shared_pixels import MEDIA_TYPE, Reader
from fashion_mnist.predictions import (
    Answer,
    Form,
    Probabilities,
    answer,
    answer_error,
    parse_top_k,
    wants_binary,
)
from fashion_mnist.preparation import Mode, parse_mode
from fashion_mnist.task import Task

log = logging.getLogger(__name__)

BODY_NAMES: Final = ("body", "data")
"""What TorchServe calls a body that is no form: "body" over HTTP; gRPC clients name it, by custom "data"."""


class Request:
    """One request of a batch. `decoded` holds its images once `decode` ran, and none where it failed."""

    __slots__ = ("_error", "_form", "_item", "_properties", "_task", "decoded")

    def __init__(self, item: dict[str, Any], properties: dict[str, Any], task: Task) -> None:
        """`item` maps the fields' names to their values, `properties` the headers' names to theirs."""
        self._item = item
        self._task = task
        self._properties = properties
        self._error: FashionMNISTError | None = None
        self._form = Form(binary=wants_binary(_header(properties, "accept")))
        self.decoded = nothing(task.geometry)

    def decode(self, limits: Limits, prepare: Mode, shared: Reader) -> None:
        """Decode the request's images, or keep the error that stands in their way.

        `prepare` counts where the request does not say it; `shared` reads the gateway's pixels.
        """
        try:
            fields = dict(self._item)
            # TorchServe passes no query string on: over HTTP the option is a header or a field of a form.
            top_k = fields.pop("top_k", None) or _header(self._properties, "x-top-k")
            if top_k:
                self._form = self._form._replace(top_k=parse_top_k(_text(top_k), self._task))
            if mode := fields.pop("prepare", None) or _header(self._properties, "x-prepare"):
                prepare = parse_mode(_text(mode))
            sent_as = _header(self._properties, "content-type").lower()
            if sent_as.startswith("application/x-www-form-urlencoded"):
                # curl's default for --data-binary; TorchServe has by now taken the bytes apart as a form.
                raise UnsupportedMediaType(
                    f"form-encoded bodies hold no images: send {KINDS}, with a content type that is true "
                    "(curl: -T FILE, or --data-binary @FILE -H 'Content-Type: application/octet-stream')"
                )
            if sent_as == MEDIA_TYPE:
                self.decoded = Decoded(shared.read(bytes(_bytes(fields.get(BODY_NAMES[0], b"")))))
            elif sent_as.startswith("multipart/"):
                self.decoded = self._decode_form(fields, limits, prepare)
            else:
                self.decoded = self._decode_body(fields, limits, prepare)
        except InputError as error:
            self._error = error
        except Exception:
            # A fault of ours, or no memory left: TorchServe would fail the whole batch for it.
            log.exception("a request could not be decoded")
            self._error = FashionMNISTError("the request could not be decoded, which is not your fault: report it")

    def fail(self, error: FashionMNISTError) -> None:
        """Answer with this error in place of any prediction."""
        self._error = error
        self.decoded = nothing(self._task.geometry)

    def answer(self, probabilities: Probabilities, model_version: str, unknown_threshold: float) -> Answer:
        """The response, for this request's rows of probabilities."""
        if self._error is not None:
            return answer_error(self._error)
        return answer(probabilities, self.decoded, model_version, unknown_threshold, self._form, task=self._task)

    def header(self, name: str) -> str:
        """A header of the request, by its name in small letters; "" where there is none."""
        return _header(self._properties, name)

    def counts(self) -> tuple[int, int]:
        """How many images were answered, and how many refused; a request that was refused as a whole counts as one."""
        return len(self.decoded.pixels), len(self.decoded.errors) + (self._error is not None)

    def _decode_body(self, fields: dict[str, Any], limits: Limits, prepare: Mode) -> Decoded:
        names: list[str] = [name for name in BODY_NAMES if name in fields] or list(fields)
        if not names:
            raise EmptyBody(f"the request is empty: send {KINDS}")
        body = fields.pop(names[0])
        if fields:
            raise BadParameter(f"unknown parameter {next(iter(fields))[:40]!r}: there are top_k and prepare")
        return decode(_bytes(body), self._field_type(names[0]), limits, self._task, prepare=prepare)

    def _decode_form(self, fields: dict[str, Any], limits: Limits, prepare: Mode) -> Decoded:
        if not fields:
            raise BadMultipart("the form has no field with an image: send -F image=@FILE, as many as you like")
        if len(fields) == 1:
            ((name, value),) = fields.items()
            return decode(_bytes(value), self._field_type(name), limits, self._task, prepare=prepare)
        return decode_many(
            [(_bytes(value), self._field_type(name)) for name, value in fields.items()],
            limits,
            self._task,
            prepare=prepare,
        )

    def _field_type(self, name: str) -> str:
        """A field's own content type; TorchServe keeps it under the field's name, where a header may have hidden it."""
        properties = self._properties.get(name)
        return str(properties.get("content-type") or "") if isinstance(properties, Mapping) else ""


def _header(properties: dict[str, Any], name: str) -> str:
    """A request's header, whatever the case of its name; "" where there is none."""
    for key, value in properties.items():
        if key.lower() == name and isinstance(value, str):
            return value
    return ""


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)


def _bytes(value: Any) -> bytes | bytearray:
    """A field's bytes, also where TorchServe was configured to decode JSON and text before we see them."""
    if isinstance(value, bytes | bytearray):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()
