"""Every answer read: what a server says of each image, to compare with what it must say."""

import contextlib
import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import RunFailed

TIMEOUT_S = 10.0
_OCTET_STREAM = "application/octet-stream"


def read_prediction(answer: bytes) -> int:
    """The class index of our answers, and of the bare number that TorchServe's MNIST example returns."""
    said = json.loads(answer)
    return int(said if isinstance(said, int) else said["predictions"][0]["index"])


def classify_singly(
    url: str,
    bodies: Sequence[bytes],
    content_type: str,
    *,
    threads: int = 8,
    headers: Mapping[str, str] | None = None,
    read: Callable[[bytes], int] = read_prediction,
) -> list[int]:
    """The class index that a server gives each body, sent one a request; `read` finds it in an answer.

    Raises RunFailed.
    """
    sent = {"Content-Type": content_type, "Accept": "*/*", **(headers or {})}

    def classify(part: NDArray[np.intp]) -> list[int]:
        with contextlib.closing(_connect(url)) as connection:
            return [_read(_post(connection, url, bodies[index], sent), read) for index in part]

    parts = np.array_split(np.arange(len(bodies)), threads)
    with ThreadPoolExecutor(threads) as pool:
        return [index for answer in pool.map(classify, parts) for index in answer]


def classify_packed(url: str, images: np.ndarray) -> list[int]:
    """The class index that our server gives each image, uint8 [n, 28, 28], sent in one request. Raises RunFailed."""
    with contextlib.closing(_connect(url)) as connection:
        content = _post(connection, url, images.tobytes(), {"Content-Type": _OCTET_STREAM, "Accept": _OCTET_STREAM})
    indices: list[int] = np.frombuffer(content, "<f4").reshape(len(images), -1).argmax(axis=1).tolist()
    return indices


def _read(answer: bytes, read: Callable[[bytes], int]) -> int:
    try:
        return read(answer)
    except (ValueError, KeyError, IndexError, TypeError):
        raise RunFailed(f"no class in the answer {answer[:200]!r}") from None


def _connect(url: str) -> http.client.HTTPConnection:
    address = urlsplit(url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT_S)


def _post(connection: http.client.HTTPConnection, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    try:
        connection.request("POST", urlsplit(url).path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RunFailed(f"no answer from {url}: {error}") from None
    if response.status != 200:
        raise RunFailed(f"{url} answered {response.status}: {content[:200]!r}")
    return content
