"""What browsers are told of how far to trust the page: https://www.w3.org/TR/CSP3/ and its like."""

from typing import Final

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' {images}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'{more}"
)
_HEADERS: Final = (
    "Content-Security-Policy: {policy}\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Permissions-Policy: accelerometer=(), autoplay=(), camera=(self), clipboard-read=(self), display-capture=(), "
    "fullscreen=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), usb=()\r\n"
)

STRICT: Final = _HEADERS.format(
    policy=_POLICY.format(images="blob:", more="; require-trusted-types-for 'script'")
).encode()
SWAGGER: Final = _HEADERS.format(policy=_POLICY.format(images="data:", more="")).encode()
"""Swagger UI builds its page without trusted types, and has pictures in its style sheet."""
