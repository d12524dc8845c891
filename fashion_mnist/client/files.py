"""Predictions for files, batched into large requests, by a server or by an engine in this process."""

import gzip
import io
import json
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import numpy as np

from fashion_mnist.client.http import BATCH_IMAGES, Client, File
from fashion_mnist.decoding.arrays import idx_images, npy_images
from fashion_mnist.decoding.bodies import GZIP, IDX, NPY, decode, decode_many
from fashion_mnist.decoding.formats import START_BYTES, format_of
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.engines import Engine
from fashion_mnist.errors import BadArray, FashionMNISTError, Forbidden, NotFound, Overloaded, Unauthorized, Unavailable
from fashion_mnist.predictions import encode_json
from fashion_mnist.preparation import DEFAULT_MODE, Mode
from fashion_mnist.task import Geometry, Task

SUFFIXES: Final = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".npy",
    ".json",
    ".raw",
    ".bin",
    "ubyte",
    "ubyte.gz",
)
"""Endings of the files of a folder that are sent; a file that is named itself may have any name."""

BATCH_FILES: Final = 256
BATCH_BYTES: Final = 4 * 2**20

_CONNECT_S: Final = 2.0

FATAL: Final = (Unavailable, Overloaded, Unauthorized, Forbidden, NotFound)
"""Errors that would recur for every other file."""

Contents: TypeAlias = list[tuple[str, bytes]]
Send: TypeAlias = Callable[[Contents], list[dict[str, Any]]]
"""Takes the names and contents of files; returns a prediction or error for each image in them, in order."""


@dataclass
class FileResult:
    """The result for one file: a prediction for each of its images, as the service answers, or an error."""

    path: Path
    predictions: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The given files, and those with `SUFFIXES` below the given folders, sorted."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.name.lower().endswith(SUFFIXES) and file.is_file())
        else:
            found.append(path)
    return found


def predict_files(paths: Iterable[Path], send: Send, geometry: Geometry) -> Iterator[FileResult]:
    """Read files, send them in batches, and yield the result of each. An invalid file has a result with an error.

    Arrays of many images are sent in batches, too, so that no request exceeds a server's limits.

    Raises the FATAL errors of `send`: then there is no result for any file.
    """
    batch: list[tuple[Path, bytes]] = []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            yield FileResult(path, error=f"cannot be read: {error.strerror or error}")
            continue
        if format_of(content[:START_BYTES]) is None:
            # It may have many images or none, so its part of a shared answer would be unknown.
            yield _predict_alone(path, content, send, geometry)
            continue
        batch.append((path, content))
        if len(batch) == BATCH_FILES or sum(len(content) for _, content in batch) >= BATCH_BYTES:
            yield from _predict_batch(batch, send)
            batch = []
    if batch:
        yield from _predict_batch(batch, send)


def _predict_alone(path: Path, content: bytes, send: Send, geometry: Geometry) -> FileResult:
    parts = _array_parts(content, geometry) or [content]
    try:
        return FileResult(path, [prediction for part in parts for prediction in send([(path.name, part)])])
    except FATAL:
        raise
    except FashionMNISTError as error:
        return FileResult(path, error=error.message)


def _array_parts(content: bytes, geometry: Geometry) -> list[bytes]:
    """A large .npy or IDX file, compressed or not, as several .npy of BATCH_IMAGES images; empty for other files."""
    try:
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        if len(content) <= BATCH_BYTES or not content.startswith((NPY, IDX)):
            return []
        images = (npy_images if content.startswith(NPY) else idx_images)(content, geometry)
    except (BadArray, OSError, EOFError, zlib.error):
        # Decoding it as a whole reports the error.
        return []
    parts = []
    for start in range(0, len(images), BATCH_IMAGES):
        file = io.BytesIO()
        np.save(file, images[start : start + BATCH_IMAGES])
        parts.append(file.getvalue())
    return parts


def _predict_batch(batch: list[tuple[Path, bytes]], send: Send) -> Iterator[FileResult]:
    try:
        answers = send([(path.name, content) for path, content in batch])
    except FATAL:
        raise
    except FashionMNISTError as error:
        if len(batch) == 1:
            yield FileResult(batch[0][0], error=error.message)
            return
        # The whole batch was refused, because of its size or because each file is invalid: try each half.
        yield from _predict_batch(batch[: len(batch) // 2], send)
        yield from _predict_batch(batch[len(batch) // 2 :], send)
        return
    for (path, _), answer in zip(batch, answers, strict=True):
        if "error" in answer:
            yield FileResult(path, error=answer["error"]["message"])
        else:
            yield FileResult(path, [answer])


def server_sender(client: Client, prepare: str = "") -> Send:
    """Send to a server. `prepare` is how to prepare images; "" uses the server's default."""

    def send(contents: Contents) -> list[dict[str, Any]]:
        try:
            return client.answers([File(content, _content_type(name)) for name, content in contents], prepare=prepare)
        except Unavailable as error:
            raise Unavailable(f"{error.message}: {_remedy(client.url)}") from None

    return send


def _remedy(url: str) -> str:
    """What to do about a server that does not answer, after trying to connect with and without TLS."""
    address = httpx.URL(url)
    scheme, port = address.scheme, address.port or {"http": 80, "https": 443}[address.scheme]
    try:
        with socket.create_connection((address.host, port), _CONNECT_S) as connection:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(connection, server_hostname=address.host):
                if scheme == "http":
                    return f"the server speaks TLS: write https://{address.netloc.decode()}"
    except ssl.SSLError:
        if scheme == "https":
            return f"the server does not speak TLS: write http://{address.netloc.decode()}"
    except OSError:
        return "start the server with `make serve`, or predict with --local"
    return "check its log, or predict with --local"


def local_sender(
    engine: Engine,
    limits: Limits,
    task: Task,
    model_version: str,
    unknown_threshold: float,
    prepare: Mode = DEFAULT_MODE,
) -> Send:
    """Compute in this process, with the server's decoding and answers."""

    def send(contents: Contents) -> list[dict[str, Any]]:
        if len(contents) == 1:
            name, content = contents[0]
            decoded = decode(content, _content_type(name), limits, task, prepare=prepare)
        else:
            decoded = decode_many([(content, "") for _, content in contents], limits, task, prepare=prepare)
        predictions: list[dict[str, Any]] = json.loads(
            encode_json(engine.predict(decoded.pixels), decoded, model_version, unknown_threshold, task=task)
        )["predictions"]
        return predictions

    return send


def _content_type(name: str) -> str:
    """The content type of a file, for contents without a signature."""
    return "application/json" if name.lower().endswith(".json") else "application/octet-stream"
