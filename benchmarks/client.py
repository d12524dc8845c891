"""Every answer read: what a server says of each image, to compare with what it must say."""

import contextlib
import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np

from benchmarks.load import RunFailed

TIMEOUT_S = 10.0


def classify_singly(url: str, bodies: Sequence[bytes], content_type: str, *, threads: int = 8) -> list[int]:
    """The class index that a server gives each body, sent one a request. Raises RunFailed.

    Understands our answers and the bare number that TorchServe's MNIST example returns.
    """
    parts = np.array_split(np.arange(len(bodies)), threads)
    with ThreadPoolExecutor(threads) as pool:
        answers = pool.map(lambda part: _classify(url, [bodies[index] for index in part], content_type), parts)
        return [index for answer in answers for index in answer]


def classify_packed(url: str, images: np.ndarray) -> list[int]:
    """The class index that our server gives each image, uint8 [n, 28, 28], sent in one request. Raises RunFailed."""
    with contextlib.closing(_connect(url)) as connection:
        content = _post(connection, url, images.tobytes(), "application/octet-stream", "application/octet-stream")
    indices: list[int] = np.frombuffer(content, "<f4").reshape(len(images), -1).argmax(axis=1).tolist()
    return indices


def _classify(url: str, bodies: list[bytes], content_type: str) -> list[int]:
    connection = _connect(url)
    try:
        answers = [json.loads(_post(connection, url, body, content_type, "*/*")) for body in bodies]
    finally:
        connection.close()
    return [answer if isinstance(answer, int) else answer["predictions"][0]["index"] for answer in answers]


def _connect(url: str) -> http.client.HTTPConnection:
    address = urlsplit(url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT_S)


def _post(connection: http.client.HTTPConnection, url: str, body: bytes, content_type: str, accept: str) -> bytes:
    try:
        connection.request("POST", urlsplit(url).path, body, {"Content-Type": content_type, "Accept": accept})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RunFailed(f"no answer from {url}: {error}") from None
    if response.status != 200:
        raise RunFailed(f"{url} answered {response.status}: {content[:200]!r}")
    return content
