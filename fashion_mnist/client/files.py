"""Predictions for files, batched into large requests, by a server or by an engine in this process."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from fashion_mnist.client.http import Client, File
from fashion_mnist.decoding.bodies import decode, decode_many
from fashion_mnist.decoding.formats import START_BYTES, format_of
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.engines import Engine
from fashion_mnist.errors import FashionMNISTError, Forbidden, NotFound, Overloaded, Unauthorized, Unavailable
from fashion_mnist.predictions import encode_json
from fashion_mnist.preparation import DEFAULT_MODE, Mode
from fashion_mnist.task import Task

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


def predict_files(paths: Iterable[Path], send: Send) -> Iterator[FileResult]:
    """Read files, send them in batches, and yield the result of each. An invalid file has a result with an error.

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
            yield _predict_alone(path, content, send)
            continue
        batch.append((path, content))
        if len(batch) == BATCH_FILES or sum(len(content) for _, content in batch) >= BATCH_BYTES:
            yield from _predict_batch(batch, send)
            batch = []
    if batch:
        yield from _predict_batch(batch, send)


def _predict_alone(path: Path, content: bytes, send: Send) -> FileResult:
    try:
        return FileResult(path, send([(path.name, content)]))
    except FATAL:
        raise
    except FashionMNISTError as error:
        return FileResult(path, error=error.message)


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
            raise Unavailable(f"{error.message}: start the server with `make serve`, or predict with --local") from None

    return send


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
            decoded = decode(content, _content_type(name), limits, task.geometry, prepare=prepare)
        else:
            decoded = decode_many([(content, "") for _, content in contents], limits, task.geometry, prepare=prepare)
        predictions: list[dict[str, Any]] = json.loads(
            encode_json(engine.predict(decoded.pixels), decoded, model_version, unknown_threshold, task=task)
        )["predictions"]
        return predictions

    return send


def _content_type(name: str) -> str:
    """The content type of a file, for contents without a signature."""
    return "application/json" if name.lower().endswith(".json") else "application/octet-stream"
