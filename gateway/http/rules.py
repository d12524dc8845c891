"""The rules of HTTP/1.1 (RFC 9110, RFC 9112) that the parser leaves to the server: headers, targets, framing."""

import re
from typing import Final

from fashion_mnist.errors import InputError
from gateway.types.request import Head

HEADERS: Final = {
    b"accept": "accept",
    b"accept-encoding": "accept_encoding",
    b"authorization": "authorization",
    b"content-encoding": "content_encoding",
    b"content-length": "content_length",
    b"content-type": "content_type",
    b"expect": "expect",
    b"host": "host",
    b"if-none-match": "if_none_match",
    b"inference-header-content-length": "inference_length",
    b"origin": "origin",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"transfer-encoding": "transfer_encoding",
    b"x-prepare": "prepare",
    b"x-request-id": "request_id",
    b"x-top-k": "top_k",
}
"""The headers that are read, and the attributes of `Head` that hold them."""

LISTS: Final = frozenset({"accept", "accept_encoding", "if_none_match", "transfer_encoding", "tracestate"})
"""Those whose lines form one list (RFC 9110, 5.3)."""

ONCE: Final = frozenset(
    {"authorization", "content_encoding", "content_type", "host", "inference_length", "prepare", "top_k"}
)
"""Those that must not be repeated, because their meaning would be ambiguous."""

_HOST: Final = re.compile(r"([\w.~!$&'()*+,;=%-]*|\[[\da-fA-F:.]+\])(:\d*)?", re.ASCII)
"""Host and port (RFC 9110, 7.2)."""

_ABSOLUTE: Final = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_ESCAPED: Final = re.compile(rb"%([2-7][0-9A-Fa-f])")
_KEPT_ESCAPED: Final = b"#%/?\x7f"


def normalised(target: bytes) -> bytes:
    """A request's target in the form in which routes are looked up: without scheme and host (RFC 9112, 3.2.2), and
    without needless escapes (RFC 3986, 6.2.2); those of characters that delimit a path stay.
    """
    if found := _ABSOLUTE.match(target):
        target = target[found.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if b"%" not in target:
        return target
    path, mark, query = target.partition(b"?")
    return _ESCAPED.sub(_unescaped, path) + mark + query


def _unescaped(escape: "re.Match[bytes]") -> bytes:
    byte = bytes([int(escape[1], 16)])
    return escape[0] if byte in _KEPT_ESCAPED else byte


def malformed(head: Head, version: str) -> InputError | None:
    """What is wrong with a request by RFC 9112, among what llhttp does not check; None if nothing is."""
    if version not in ("1.0", "1.1"):
        return InputError("the request is neither HTTP/1.1 nor HTTP/1.0: use one of these")
    if head.repeated:
        return InputError(f"the header {head.repeated[:40]!r} is repeated: send it once")
    if head.host is None and version == "1.1":
        return InputError("no Host header: HTTP/1.1 requires one")
    if head.host and not _HOST.fullmatch(head.host):
        return InputError(f"the Host header is {head.host[:80]!r}: send host:port")
    if head.transfer_encoding and (head.transfer_encoding.lower() != "chunked" or version == "1.0"):
        return InputError(
            f"transfer-encoding {head.transfer_encoding[:40]!r} in HTTP/{version} is not supported: use chunked in "
            "HTTP/1.1, or send a Content-Length"
        )
    return None


def has_body(head: Head) -> bool:
    return bool(head.transfer_encoding or (head.content_length and int(head.content_length)))
