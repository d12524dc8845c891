"""Where a request's time went: https://www.w3.org/TR/server-timing/, in milliseconds."""

from typing import Final

TIMED: Final = (
    b"X-Request-Id: %b\r\n"
    b"Server-Timing: parse;dur=%.3f, decode;dur=%.3f, queue;dur=%.3f, engine;dur=%.3f, encode;dur=%.3f\r\n"
)
"""The headers of an answer that was computed, as whole lines: its request's name and the five times."""
