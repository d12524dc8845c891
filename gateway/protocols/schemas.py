"""Building blocks of the OpenAPI document.

https://spec.openapis.org/oas/v3.1.0
"""

from collections.abc import Mapping
from typing import Any, Final

from fashion_mnist.predictions import JSON

Schema = dict[str, Any]

_REASONS: Final = {
    "400": "The request is invalid; the message says what to change.",
    "401": "No key, or one that is unknown, revoked or expired; only if the server requires keys.",
    "403": "The key has another scope.",
    "405": "The path does not support the method.",
    "408": "The request did not arrive in time.",
    "413": "The request exceeds a limit of bytes, pixels or images.",
    "415": "The media type is not supported.",
    "429": "The server is overloaded: retry in a moment.",
    "431": "The headers are too long.",
    "503": "The engine does not answer: retry later.",
}


def errors(schema: str, *statuses: str) -> dict[str, Any]:
    return {status: answer(_REASONS[status], ref(schema)) for status in statuses or _REASONS}


def answer(description: str, schema: Schema, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}, **(more or {})}}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(required: Mapping[str, Any], **optional: Any) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def list_of(kind: str) -> Schema:
    return {"type": "array", "items": {"type": kind}}
