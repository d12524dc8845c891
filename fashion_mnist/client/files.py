"""Predictions for files: packed into large requests, by a server or by an engine in this process."""

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

from fashion_mnist.client.http import PACK_IMAGES, Client, File
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
"""What the files of a folder must end with to be taken; a file that is named itself may end with anything."""

PACK_FILES: Final = 256
PACK_BYTES: Final = 4 * 2**20

_LOOK_S: Final = 2.0

HOPELESS: Final = (Unavailable, Overloaded, Unauthorized, Forbidden, NotFound)
"""Errors after which no other file will fare better."""

Contents: TypeAlias = list[tuple[str, bytes]]
Send: TypeAlias = Callable[[Contents], list[dict[str, Any]]]
"""Takes the names and contents of files, gives a prediction or error for each image in them, in order."""


@dataclass
class FileResult:
    """What came of one file: a prediction for each of its images, as the service answers, or why there is none."""

    path: Path
    predictions: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those below the folders that are named, sorted, by `SUFFIXES`."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.name.lower().endswith(SUFFIXES) and file.is_file())
        else:
            found.append(path)
    return found


def predict_files(paths: Iterable[Path], send: Send, geometry: Geometry) -> Iterator[FileResult]:
    """Read files, send them in packs, and yield what came of each. A bad file is a result with an error.

    Arrays of many images are sent in packs too: no request is longer for them than a server's limits allow.

    Raises what is not the files' fault, HOPELESS, where `send` does: then there is no result for any file.
    """
    pack: list[tuple[Path, bytes]] = []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            yield FileResult(path, error=f"cannot be read: {error.strerror or error}")
            continue
        if format_of(content[:START_BYTES]) is None:
            # It may hold many images, or none: only alone can its part of the answer be told.
            yield _predict_alone(path, content, send, geometry)
            continue
        pack.append((path, content))
        if len(pack) == PACK_FILES or sum(len(content) for _, content in pack) >= PACK_BYTES:
            yield from _predict_pack(pack, send)
            pack = []
    if pack:
        yield from _predict_pack(pack, send)


def _predict_alone(path: Path, content: bytes, send: Send, geometry: Geometry) -> FileResult:
    packs = _array_packs(content, geometry) or [content]
    try:
        return FileResult(path, [prediction for pack in packs for prediction in send([(path.name, pack)])])
    except HOPELESS:
        raise
    except FashionMNISTError as error:
        return FileResult(path, error=error.message)


def _array_packs(content: bytes, geometry: Geometry) -> list[bytes]:
    """A large .npy or IDX file, gzipped or not, as several .npy of PACK_IMAGES images; empty for all else."""
    try:
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        if len(content) <= PACK_BYTES or not content.startswith((NPY, IDX)):
            return []
        images = (npy_images if content.startswith(NPY) else idx_images)(content, geometry)
    except (BadArray, OSError, EOFError, zlib.error):
        # Whoever decodes it whole says what is wrong with it.
        return []
    packs = []
    for start in range(0, len(images), PACK_IMAGES):
        file = io.BytesIO()
        np.save(file, images[start : start + PACK_IMAGES])
        packs.append(file.getvalue())
    return packs


def _predict_pack(pack: list[tuple[Path, bytes]], send: Send) -> Iterator[FileResult]:
    try:
        answers = send([(path.name, content) for path, content in pack])
    except HOPELESS:
        raise
    except FashionMNISTError as error:
        if len(pack) == 1:
            yield FileResult(pack[0][0], error=error.message)
            return
        # Refused as a whole, for its size or because each file in it is bad: the halves may still have answers.
        yield from _predict_pack(pack[: len(pack) // 2], send)
        yield from _predict_pack(pack[len(pack) // 2 :], send)
        return
    for (path, _), answer in zip(pack, answers, strict=True):
        if "error" in answer:
            yield FileResult(path, error=answer["error"]["message"])
        else:
            yield FileResult(path, [answer])


def server_sender(client: Client, prepare: str = "") -> Send:
    """Send to a server. `prepare` says how it is to prepare images; "" leaves that to the server."""

    def send(contents: Contents) -> list[dict[str, Any]]:
        try:
            return client.answers([File(content, _content_type(name)) for name, content in contents], prepare=prepare)
        except Unavailable as error:
            raise Unavailable(f"{error.message}: {_remedy(client.url)}") from None

    return send


def _remedy(url: str) -> str:
    """What to do where a server does not answer, after a look at what is there."""
    address = httpx.URL(url)
    scheme, port = address.scheme, address.port or {"http": 80, "https": 443}[address.scheme]
    try:
        with socket.create_connection((address.host, port), _LOOK_S) as connection:
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
    return "look at its log, or predict with --local"


def local_sender(
    engine: Engine,
    limits: Limits,
    task: Task,
    model_version: str,
    unknown_threshold: float,
    prepare: Mode = DEFAULT_MODE,
) -> Send:
    """Compute in this process: the same decoding and the same answers as the server's."""

    def send(contents: Contents) -> list[dict[str, Any]]:
        if len(contents) == 1:
            name, content = contents[0]
            decoded = decode(content, _content_type(name), limits, task.geometry, prepare=prepare)
        else:
            decoded = decode_many([(content, "") for _, content in contents], limits, task.geometry, prepare=prepare)
        predictions: list[dict[str, Any]] = json.loads(
            encode_json(engine.predict(decoded.pixels), decoded, model_version, unknown_threshold, task=task)
        )["predictions"]
        return predictions

    return send


def _content_type(name: str) -> str:
    """What a file is taken for where its bytes say nothing."""
    return "application/json" if name.lower().endswith(".json") else "application/octet-stream"
