"""Server addresses from arguments and settings: validation, and HTTP clients that bypass proxies for this machine."""

import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar

import httpx

from fashion_mnist.errors import UsageError

_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)

_ENVIRONMENT: Final = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"


def checked_url(url: str) -> str:
    """A server's URL without a trailing slash. Raises UsageError if it is invalid."""
    example = "write it as http://127.0.0.1:8080"
    try:
        found = httpx.URL(url)
        port = found.port
    except (httpx.InvalidURL, ValueError) as error:
        raise UsageError(f"{url[:200]!r} is not a server's URL ({error}): {example}") from None
    if found.scheme not in ("http", "https"):
        raise UsageError(f"{url[:200]!r} does not begin with http:// or https://: {example}")
    if not found.host or port == 0 or found.query or found.fragment:
        raise UsageError(f"{url[:200]!r} is not a server's URL: {example}")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL's host is a loopback address or a name of one."""
    host = httpx.URL(url).host
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def open_http(kind: Callable[..., _Http], url: str, verify: ssl.SSLContext | None = None, **options: object) -> _Http:
    """An HTTP client for a server, which bypasses the environment's proxies if the server is on this machine.

    `verify` has the trusted authorities; by default they are the system's, or SSL_CERT_FILE's. Raises UsageError if the
    environment's proxies or certificates cannot be used.
    """
    try:
        if verify is None and url.startswith("https:"):
            verify = httpx.create_ssl_context()
        return kind(trust_env=not is_loopback(url), verify=verify or True, **options)
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise UsageError(
            f"the environment's proxies or certificates cannot be used ({error}): check {_ENVIRONMENT}"
        ) from None
