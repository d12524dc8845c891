"""Files for browsers: told apart by their content, compressed where that helps, and kept by those who have them."""

import gzip
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from fashion_mnist.predictions import JSON, Answer
from gateway.types.request import Head

TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": JSON,
    ".map": JSON,
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
}
"""What is served, by its name's end."""

_NOT_SHIPPED: Final = frozenset(
    {"node_modules", "tests", "__pycache__", "package.json", "package-lock.json", "tsconfig.json"}
)
_NOT_SHIPPED_ENDS: Final = (".test.js", ".test.mjs", ".d.ts")
_COMPRESSED: Final = frozenset({".png", ".webp", ".ico", ".woff2"})
_LEAST_BYTES: Final = 256
"""Shorter ones gain nothing."""

REVALIDATE: Final = b"no-cache"
FOREVER: Final = b"public, max-age=31536000, immutable"
"""Values of Cache-Control: ask each time whether it is still the same; or never again."""

_HASH_LENGTH: Final = 16


class File:
    """One file as it is sent."""

    def __init__(self, body: bytes, content_type: str, *, compress: bool = True) -> None:
        self.hash = sha256(body).hexdigest()[:_HASH_LENGTH]
        self._type = content_type
        self._body = body
        self._gzipped = b""
        if compress and len(body) >= _LEAST_BYTES:
            gzipped = gzip.compress(body, mtime=0)
            self._gzipped = gzipped if len(gzipped) < len(body) else b""

    def answer(self, head: Head, cache: bytes = REVALIDATE) -> Answer:
        """The file, or 304 for a client that has it; `cache` is the value of Cache-Control."""
        gzipped = bool(self._gzipped) and _takes_gzip(head.accept_encoding)
        # What is compressed has other bytes, and so another tag (RFC 9110, 8.8.3.3).
        tag = f'"{self.hash}-gzip"' if gzipped else f'"{self.hash}"'
        headers = b"ETag: %b\r\nCache-Control: %b\r\nX-Content-Type-Options: nosniff\r\n" % (tag.encode(), cache)
        if self._gzipped:
            headers += b"Vary: Accept-Encoding\r\n"
        if gzipped:
            headers += b"Content-Encoding: gzip\r\n"
        status = 304 if _names(head.if_none_match, tag) else 200
        return Answer(status, self._type, self._gzipped if gzipped else self._body, headers)


class Folder:
    """The files of a folder, read once; `hash` changes where any of them does.

    In HTML files every `"PREFIX` becomes `"PREFIX<hash>/`, so that all they load may be kept for good.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        """`prefix` is the path under which the files are served, with slashes on both sides."""
        contents = {str(name): (folder / name).read_bytes() for name in _shipped(folder)}
        names = sha256()
        for name, content in contents.items():
            names.update(f"{name} {sha256(content).hexdigest()}\n".encode())
        self.hash = names.hexdigest()[:_HASH_LENGTH]
        self._files: dict[str, File] = {}
        for name, content in contents.items():
            end = PurePosixPath(name).suffix
            if end == ".html":
                content = content.replace(f'"{prefix}'.encode(), f'"{prefix}{self.hash}/'.encode())
            self._files[name] = File(content, TYPES[end], compress=end not in _COMPRESSED)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def find(self, path: str) -> tuple[File, bytes] | None:
        """The file at a path behind the prefix, with or without the hash before it, and for how long it may be kept."""
        hashed = path.removeprefix(f"{self.hash}/")
        file = self._files.get(hashed)
        return None if file is None else (file, REVALIDATE if hashed == path else FOREVER)


def _shipped(folder: Path) -> Iterable[PurePosixPath]:
    """The files that are served, relative to their folder, in order."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_shipped(name))
        for name in sorted(filter(_is_shipped, names)):
            path = Path(place, name)
            if path.suffix in TYPES and not name.endswith(_NOT_SHIPPED_ENDS) and path.is_file():
                yield PurePosixPath(path.relative_to(folder).as_posix())


def _is_shipped(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_SHIPPED


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip (RFC 9110, 12.5.3)."""
    for item in accept_encoding.lower().split(","):
        coding, _, parameter = item.partition(";")
        if coding.strip() == "gzip":
            return not parameter or parameter.strip().removeprefix("q=").strip("0.") != ""
    return False


def _names(if_none_match: str, tag: str) -> bool:
    """Whether an If-None-Match header has this tag (RFC 9110, 13.1.2)."""
    tags = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return tag in tags or tags == ["*"]
