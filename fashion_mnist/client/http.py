"""A client of the service: from arrays and image files to probabilities and labels, synchronous or with asyncio.

    with Client("http://127.0.0.1:8080") as client:
        probabilities = client.predict(images)      # uint8 [n, channels, height, width] -> float32 [n, classes]
        (prediction,) = client.classify(Path("shoe.png").read_bytes())

Both clients run the same exchanges: generators that yield the requests to send and the seconds to wait.
"""

import asyncio
import json
import random
import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self, TypeAlias, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import BadArray, FashionMNISTError, InputError, Overloaded, Unavailable
from fashion_mnist.system.addresses import checked_url, open_http
from fashion_mnist.task import FASHION_MNIST, Task

URL: Final = "http://127.0.0.1:8080"
PATH: Final = "/predictions/"
"""The path before the task's name."""
READY: Final = "/health/ready"

BATCH_IMAGES: Final = 1024
"""Images per request of `predict`: larger requests are not faster, and delay others longer."""

TIMEOUT_S: Final = 30.0
RETRY_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0

_OCTET_STREAM: Final = "application/octet-stream"
_JSON: Final = "application/json"

_Result = TypeVar("_Result")
_Exchange: TypeAlias = Generator[httpx.Request | float, httpx.Response | httpx.HTTPError | None, _Result]
"""Yields a request and receives its response or error, or yields seconds to wait."""


class File(NamedTuple):
    """A file in any supported format; the content type matters only if its bytes have no signature."""

    content: bytes
    content_type: str = _OCTET_STREAM


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image. `probabilities` are by class, of all classes or of the `top_k` most likely."""

    label: str
    index: int
    probabilities: Mapping[str, float]
    unknown: bool
    """Whether the image probably shows none of the classes: its score is above the model's threshold."""
    unknown_score: float
    """From 1 to the number of classes."""


_PREDICTION: Final = tuple(field.name for field in fields(Prediction))


@dataclass(frozen=True)
class Failure:
    """The error for one image among others."""

    code: str
    message: str


class _Exchanges:
    """The requests of both clients, and the handling of their responses."""

    def __init__(self, http: "httpx.Client | httpx.AsyncClient", url: str, task: Task, retry_s: float) -> None:
        self._build = http.build_request
        self._url = url.removesuffix(PATH + task.name)
        self._predictions = self._url + PATH + task.name
        self._task = task
        self._retry_s = retry_s

    def predict(self, images: NDArray[np.uint8]) -> _Exchange[NDArray[np.float32]]:
        batch = _checked(images, self._task)
        classes = len(self._task.classes)
        found = np.empty((len(batch), classes), np.float32)
        for start in range(0, len(batch), BATCH_IMAGES):
            part = batch[start : start + BATCH_IMAGES]
            headers = {"content-type": _OCTET_STREAM, "accept": _OCTET_STREAM}
            request = self._build("POST", self._predictions, content=part.tobytes(), headers=headers)
            response = yield from self._send(request)
            if len(response.content) != 4 * classes * len(part):
                raise Unavailable(f"{self._url} answered {len(response.content)} bytes for {len(part)} images")
            found[start : start + len(part)] = np.frombuffer(response.content, "<f4").reshape(-1, classes)
        return found

    def answers(self, files: Sequence[File], top_k: int | None, prepare: str) -> _Exchange[list[dict[str, Any]]]:
        headers = {} if top_k is None else {"x-top-k": str(top_k)}
        if prepare:
            headers["x-prepare"] = prepare
        if len(files) == 1:
            headers["content-type"] = files[0].content_type
            request = self._build("POST", self._predictions, content=files[0].content, headers=headers)
        else:
            form = [("image", (str(place), *file)) for place, file in enumerate(files)]
            request = self._build("POST", self._predictions, files=form, headers=headers)
        response = yield from self._send(request)
        try:
            predictions: list[dict[str, Any]] = json.loads(response.content)["predictions"]
        except (ValueError, KeyError, TypeError):
            raise Unavailable(f"{self._url} answered 200 with {response.content[:100]!r}") from None
        return predictions

    def classify(
        self, files: Sequence[bytes | File], top_k: int | None, prepare: str
    ) -> _Exchange[list[Prediction | Failure]]:
        sent = [file if isinstance(file, File) else File(file) for file in files]
        answers = yield from self.answers(sent, top_k, prepare)
        return [
            Failure(answer["error"]["code"], answer["error"]["message"])
            if "error" in answer
            else Prediction(**{name: answer[name] for name in _PREDICTION})
            for answer in answers
        ]

    def ready(self) -> _Exchange[bool]:
        response = yield self._build("GET", self._url + READY)
        return isinstance(response, httpx.Response) and response.status_code == 200

    def _send(self, request: httpx.Request) -> _Exchange[httpx.Response]:
        """Send a request, retry it if it was certainly not served, and return its successful response.

        A request that was sent and not answered is not retried: the service may have failed because of it.
        """
        give_up = time.monotonic() + self._retry_s
        pause = FIRST_PAUSE_S
        while True:
            reply = yield request
            if isinstance(reply, httpx.Response):
                if reply.status_code == 200:
                    return reply
                error = _error(self._url, reply)
                wait_s = _retry_after(reply) if isinstance(error, Overloaded | Unavailable) else None
            else:
                error = Unavailable(f"no answer from {self._url} ({str(reply) or type(reply).__name__})")
                wait_s = pause if isinstance(reply, httpx.ConnectError) and not _is_tls(reply) else None
                pause = min(2 * pause, MAX_PAUSE_S)
            if wait_s is None:
                raise error
            # Jitter, so that clients that were refused together do not retry together.
            wait_s *= random.uniform(1, 1.25)
            if time.monotonic() + wait_s > give_up:
                raise error
            yield wait_s


class Client:
    """A synchronous, thread-safe client. It keeps connections open: close it, or use it in a `with` statement."""

    def __init__(
        self,
        url: str = URL,
        *,
        task: Task = FASHION_MNIST,
        key: str = "",
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`url` is the service's, such as http://127.0.0.1:8080; `task` is in the model card; `key` is an API key.

        `timeout_s` limits each step of a request: connecting, and every read and write. If the connection is refused,
        and after 429 and 503 with Retry-After, a request is retried for up to `retry_s` seconds; 0: never. `tls` has
        the trusted authorities and the client's certificate for https; by default the system's authorities are trusted.
        Raises UsageError if `url` is invalid, or the environment's proxies or certificates cannot be used.
        """
        self.url = url = checked_url(url)
        self._http = open_http(httpx.Client, url, timeout=timeout_s, headers=_headers(key), verify=tls)
        self._exchanges = _Exchanges(self._http, url, task, retry_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, classes], of images, uint8 [n, c, h, w], in as many requests as needed.

        Images with one channel may omit that dimension.

        Raises BadArray for another dtype or shape, the service's error as its class in `fashion_mnist.errors`, and
        Unavailable without an answer.
        """
        return self._run(self._exchanges.predict(images))

    def classify(self, *files: bytes | File, top_k: int | None = None, prepare: str = "") -> list[Prediction | Failure]:
        """The predictions for the images in these files, in order, in one request; an invalid image is a Failure.

        `prepare` is auto, always, paper or none; "" uses the service's default.
        Raises as `predict` does, also if no image is valid.
        """
        return self._run(self._exchanges.classify(files, top_k, prepare))

    def answers(self, files: Sequence[File], top_k: int | None = None, prepare: str = "") -> list[dict[str, Any]]:
        """Like `classify`, but returns the service's "predictions" unchanged."""
        return self._run(self._exchanges.answers(files, top_k, prepare))

    def ready(self) -> bool:
        """Whether the service answers and is ready. Does not raise if it is absent."""
        return self._run(self._exchanges.ready())

    def _run(self, exchange: _Exchange[_Result]) -> _Result:
        reply: httpx.Response | httpx.HTTPError | None = None
        while True:
            try:
                step = exchange.send(reply)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
            reply = None
            if isinstance(step, float):
                time.sleep(step)
                continue
            try:
                reply = self._http.send(step)
            except httpx.HTTPError as error:
                reply = error


class AsyncClient:
    """The client for asyncio: see `Client`."""

    def __init__(
        self,
        url: str = URL,
        *,
        task: Task = FASHION_MNIST,
        key: str = "",
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """See `Client`."""
        url = checked_url(url)
        self._http = open_http(httpx.AsyncClient, url, timeout=timeout_s, headers=_headers(key), verify=tls)
        self._exchanges = _Exchanges(self._http, url, task, retry_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Client.predict`."""
        return await self._run(self._exchanges.predict(images))

    async def classify(
        self, *files: bytes | File, top_k: int | None = None, prepare: str = ""
    ) -> list[Prediction | Failure]:
        """See `Client.classify`."""
        return await self._run(self._exchanges.classify(files, top_k, prepare))

    async def answers(self, files: Sequence[File], top_k: int | None = None, prepare: str = "") -> list[dict[str, Any]]:
        """See `Client.answers`."""
        return await self._run(self._exchanges.answers(files, top_k, prepare))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(self._exchanges.ready())

    async def _run(self, exchange: _Exchange[_Result]) -> _Result:
        reply: httpx.Response | httpx.HTTPError | None = None
        while True:
            try:
                step = exchange.send(reply)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
            reply = None
            if isinstance(step, float):
                await asyncio.sleep(step)
                continue
            try:
                reply = await self._http.send(step)
            except httpx.HTTPError as error:
                reply = error


def _checked(images: NDArray[np.uint8], task: Task) -> NDArray[np.uint8]:
    images = np.asarray(images)
    channels, *rows = task.geometry
    shapes = [[*task.geometry], rows] if channels == 1 else [[*task.geometry]]
    shape = list(images.shape)
    if images.dtype != np.uint8 or not any(each in (shape, shape[1:]) for each in shapes):
        wanted = ", ".join(map(str, task.geometry))
        raise BadArray(f"the images are {images.dtype} {shape}: {task.name} takes uint8 [n, {wanted}]")
    return images.reshape(-1, *task.geometry)


def _is_tls(error: BaseException) -> bool:
    """Whether TLS failed, which a retry would not change."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds in a Retry-After header; None without one. Dates are not supported."""
    try:
        return max(0.0, float(int(response.headers.get("retry-after", ""))))
    except ValueError:
        return None


def _error(url: str, response: httpx.Response) -> FashionMNISTError:
    """The error in a response as its class, with the service's message."""
    try:
        found = json.loads(response.content)["error"]
        code, message = str(found["code"]), str(found["message"])
        if "index" in found:
            message = f"image {found['index']}: {message}"
    except (ValueError, KeyError, TypeError):
        code, message = "", f"{url} answered {response.status_code} with {response.content[:100]!r}"
    kind = next((kind for kind in _kinds(FashionMNISTError) if kind.code == code), None)
    return (kind or (InputError if response.status_code < 500 else Unavailable))(message)


def _kinds(root: type[FashionMNISTError]) -> Iterator[type[FashionMNISTError]]:
    yield root
    for subclass in root.__subclasses__():
        yield from _kinds(subclass)
