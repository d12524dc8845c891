"""CORS: the web pages whose scripts may read answers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import re
from typing import Final

from fashion_mnist.errors import UsageError

PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: POST, PUT, GET, HEAD\r\n"
    b"Access-Control-Allow-Headers: Accept, Authorization, Content-Type, Inference-Header-Content-Length, "
    b"Traceparent, Tracestate, X-Prepare, X-Request-Id, X-Top-K\r\n"
    b"Access-Control-Max-Age: 7200\r\n"
)
"""Headers of the answer to a preflight request, as complete lines."""

_EXPOSED: Final = (
    b"Access-Control-Expose-Headers: Inference-Header-Content-Length, Retry-After, Server-Timing, Traceresponse, "
    b"WWW-Authenticate, X-Request-Id\r\n"
)
_ORIGIN: Final = re.compile(r"(http://(?!.*:80$)|https://(?!.*:443$))[a-z0-9.\-\[\]:]+")
"""As browsers write it: lower case, without the scheme's default port."""


class Cors:
    """The allowed origins."""

    def __init__(self, origins: str) -> None:
        """`origins` is a comma-separated list; `*` allows all. Raises UsageError for what no browser sends."""
        self._origins = frozenset(filter(None, map(str.strip, origins.split(","))))
        for origin in self._origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"cors_origins has {origin!r}: write an origin as scheme, host and port, such as "
                    "https://example.org, in lower case, without a path and without the default port"
                )

    def headers(self, origin: str) -> bytes:
        """An answer's headers for a page of this origin, as complete lines; b"" if it is not allowed."""
        if "*" in self._origins:
            return b"Access-Control-Allow-Origin: *\r\n" + _EXPOSED
        if origin in self._origins:
            return f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n".encode() + _EXPOSED
        return b""
