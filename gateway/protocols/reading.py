"""What reading a request has in common in all protocols."""

from typing import Final, Protocol
from urllib.parse import parse_qsl

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.decoding.limits import QUICK_PIXELS, Limits, TooSlow
from fashion_mnist.errors import UnsupportedMediaType
from fashion_mnist.preparation import Mode, parse_mode
from gateway.types.exchange import BodyReader, F, R

QUICK_BYTES: Final = 16 * 1024


def read_quickly(reader: BodyReader[R, F], request: R, limits: Limits) -> tuple[F, Decoded]:
    """Read a request, unless other requests would have to wait for that: then TooSlow, and `read` belongs in a thread.

    A short body may hold a large image: what is quick, decoding finds out. Raises InputError.
    """
    if len(request.body) > QUICK_BYTES and not reader.is_plain(request):
        raise TooSlow(len(request.body))
    return reader.read(request, limits, QUICK_PIXELS)


class Options(Protocol):
    """What a head says beside the body."""

    prepare: str
    url: bytes


def preparation(head: Options, default: Mode) -> Mode:
    """How a request's images are to be prepared: as the query says, else the header, else the setting.

    Raises BadParameter.
    """
    mode = parse_mode(head.prepare) if head.prepare else default  # wrong is wrong, even where the query wins
    if b"prepare" in head.url:
        query = dict(parse_qsl(head.url.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
        if "prepare" in query:
            mode = parse_mode(query["prepare"])
    return mode


def check_encoding(content_encoding: str) -> None:
    """Raise UnsupportedMediaType where a body is packed: what is in it would be unknown before it is unpacked."""
    if content_encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"content-encoding {content_encoding[:20]!r}: send the body as it is, unpacked")


def refuse_bad(decoded: Decoded) -> Decoded:
    """The images where all are good, for answers that have no room for an error among them.

    Raises the error of the first bad one, which then names its place.
    """
    if decoded.errors:
        place = min(decoded.errors)
        error = decoded.errors[place]
        raise type(error)(f"image {place}: {error.message}")
    return decoded
