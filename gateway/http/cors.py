"""CORS: which web pages' scripts may read our answers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import re
from typing import Final

from fashion_mnist.errors import UsageError

PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: POST, PUT, GET, HEAD\r\n"
    b"Access-Control-Allow-Headers: Accept, Authorization, Content-Type, Inference-Header-Content-Length, "
    b"Traceparent, Tracestate, X-Prepare, X-Request-Id, X-Top-K\r\n"
    b"Access-Control-Max-Age: 7200\r\n"
)
"""What a browser is told that asks before it sends, as whole lines."""

_EXPOSED: Final = (
    b"Access-Control-Expose-Headers: Inference-Header-Content-Length, Retry-After, Server-Timing, Traceresponse, "
    b"WWW-Authenticate, X-Request-Id\r\n"
)
_ORIGIN: Final = re.compile(r"(http://(?!.*:80$)|https://(?!.*:443$))[a-z0-9.\-\[\]:]+")
"""As browsers write it: small letters, and no port that goes without saying."""


class Cors:
    """The origins that are let in."""

    def __init__(self, origins: str) -> None:
        """Those of a list with commas; `*` for all. Raises UsageError for what no browser would send."""
        self._origins = frozenset(filter(None, map(str.strip, origins.split(","))))
        for origin in self._origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"cors_origins has {origin!r}: an origin is scheme, host and port, such as https://example.org, "
                    "in small letters, without a path and without a port that goes without saying"
                )

    def headers(self, origin: str) -> bytes:
        """What an answer says to a page of this origin, as whole lines; b"" where it is not let in."""
        if "*" in self._origins:
            return b"Access-Control-Allow-Origin: *\r\n" + _EXPOSED
        if origin in self._origins:
            return f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n".encode() + _EXPOSED
        return b""
