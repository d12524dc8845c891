"""Reading requests: what all protocols share."""

from typing import Final, Protocol
from urllib.parse import parse_qsl

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import QUICK_PIXELS, Limits, TooSlow
from fashion_mnist.errors import UnsupportedMediaType
from fashion_mnist.preparation import Mode, parse_mode
from gateway.types.exchange import BodyReader, F, R

QUICK_BYTES: Final = 16 * 1024


def read_quickly(reader: BodyReader[R, F], request: R, limits: Limits) -> tuple[F, Decoded]:
    """Read a request if that is quick. Otherwise raise TooSlow: call `reader.read` in a thread.

    A short body may contain a large image, which decoding detects. Raises InputError.
    """
    if len(request.body) > QUICK_BYTES and not reader.is_plain(request):
        raise TooSlow(len(request.body))
    return reader.read(request, limits, QUICK_PIXELS)


class Options(Protocol):
    """The options in a request's head."""

    prepare: str
    url: bytes


def preparation(head: Options, default: Mode) -> Mode:
    """How to prepare a request's images: by the query, else by the header, else by the setting.

    Raises BadParameter.
    """
    mode = parse_mode(head.prepare) if head.prepare else default  # invalid values are always refused
    if b"prepare" in head.url:
        query = dict(parse_qsl(head.url.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
        if "prepare" in query:
            mode = parse_mode(query["prepare"])
    return mode


def check_encoding(content_encoding: str) -> None:
    """Raise UnsupportedMediaType for a compressed body, whose uncompressed length is unknown."""
    if content_encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(
            f"content-encoding {content_encoding[:20]!r} is not supported: send the body uncompressed"
        )


def refuse_bad(decoded: Decoded) -> Decoded:
    """The images if all are valid, for protocols whose answers cannot contain errors of single images.

    Raises the error of the first invalid one, with its index in the message.
    """
    if decoded.errors:
        place = min(decoded.errors)
        error = decoded.errors[place]
        raise type(error)(f"image {place}: {error.message}")
    return decoded
