"""Errors as answers: in the format of the request's protocol, with the headers that belong to them."""

import json

from fashion_mnist.errors import FashionMNISTError, Forbidden, Overloaded, Unauthorized, Unavailable
from fashion_mnist.predictions import JSON, Answer
from fashion_mnist.predictions import answer_error as answer_native_error


def answer_error(url: bytes, error: FashionMNISTError) -> Answer:
    """An error in the format of the protocol that a path belongs to."""
    if url.startswith((b"/v2", b"/v1")):
        return Answer(error.status, JSON, json.dumps({"error": error.message}).encode())
    return answer_native_error(error)


def headers_of(error: FashionMNISTError) -> bytes:
    """The headers of an error's answer, as complete lines."""
    if isinstance(error, Overloaded | Unavailable):
        return b"Retry-After: 1\r\n"
    if isinstance(error, Unauthorized | Forbidden):
        return f"WWW-Authenticate: {challenge(error)}\r\n".encode()
    return b""


def challenge(error: FashionMNISTError) -> str:
    """The challenge to a refused client (RFC 6750, 3)."""
    return 'Bearer realm="fashion_mnist"' + (', error="insufficient_scope"' if isinstance(error, Forbidden) else "")
