"""TorchServe behind the gateway: each batch is one request, answered as raw float32.

The pixels are in memory that the worker maps if it can; otherwise they are in the body.
"""

import asyncio
import functools
import logging
import struct
from collections.abc import Callable
from typing import Final, cast

import httptools
import numpy as np

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import Unavailable
from fashion_mnist.handler_interface.shared_pixels import MEDIA_TYPE, Writer
from fashion_mnist.predictions import OCTET_STREAM, Probabilities
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST, Task
from serving.config import RunFolder

log = logging.getLogger(__name__)

WORTH_A_BATCH: Final = 32
"""Queued images that justify one more batch in flight; a request costs TorchServe some 0.3 ms."""

_HEAD: Final = f"POST /predictions/%s HTTP/1.1\r\nHost: localhost\r\nAccept: {OCTET_STREAM}\r\nX-Prepare: none\r\n"

_IDX: Final = struct.Struct(">5I")
"""The header of an IDX file of images. Without it, pixels could be mistaken for an image file by their first bytes."""


class TorchServeEngine:
    """TorchServe on this machine. See `gateway.models.engines.Backend`."""

    def __init__(
        self, settings: Settings, address: "RunFolder | int", task: Task = FASHION_MNIST, *, shared: bool = True
    ) -> None:
        """`address` is the folder of its run, or the port on loopback of one alone. Does not connect yet.

        If `shared`, pixels are in shared memory, unless there is none or the worker cannot read it.
        """
        self._address = address
        self._task = task
        self._shared = shared
        self._timeout_s = settings.engine_timeout_s
        self._slots = settings.workers + 1
        self._idle: list[_Connection] = []
        self.headers: Callable[[], str] = lambda: ""
        """Additional headers of the batch that is being sent."""
        most = settings.max_gpu_batch if settings.device == "cuda" else 256
        in_body = (settings.max_body_bytes - _IDX.size) // task.image_bytes
        self.max_batch = max(1, min(most, settings.max_images, in_body))

    def wants(self, in_flight: int, waiting: int) -> bool:
        return in_flight == 0 or (in_flight < self._slots and waiting >= WORTH_A_BATCH)

    async def predict(self, images: Pixels) -> Probabilities:
        try:
            async with asyncio.timeout(self._timeout_s):
                shared = self._shared  # for this batch: it may change before the answer arrives
                status, body = await self._ask(images)
                if status == 400 and shared:
                    self._stop_sharing("the worker cannot read this process's memory")
                    status, body = await self._ask(images)
        except TimeoutError:
            raise Unavailable(f"the engine did not answer within {self._timeout_s} s: retry") from None
        except (OSError, httptools.HttpParserError) as error:
            raise Unavailable(f"the engine cannot be reached ({error or type(error).__name__}): retry") from None
        if status != 200:
            raise Unavailable(f"the engine answered {status}: retry")
        classes = len(self._task.classes)
        if len(body) != 4 * classes * len(images):
            raise Unavailable(f"the engine answered {len(body)} bytes for {len(images)} images: retry")
        return np.frombuffer(body, "<f4").reshape(len(images), classes)

    async def _ask(self, images: Pixels) -> tuple[int, bytes]:
        """The status and the body of TorchServe's answer."""
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            headers = f"{connection.authorization}{self.headers()}"
            answer = await connection.post(*self._content(connection, images), headers)
        except BaseException:
            connection.close()
            raise
        if answer[0] in (401, 403):
            connection.close()  # its key is that of an earlier run
        elif connection.reusable:
            self._idle.append(connection)
        return answer

    def _content(self, connection: "_Connection", images: Pixels) -> tuple[str, bytes]:
        """The content type and the body of a request."""
        if self._shared:
            try:
                return MEDIA_TYPE, connection.share(images, self.max_batch)
            except OSError as error:
                self._stop_sharing(f"there is no shared memory ({error})")
        header = _IDX.pack(0x00000804, len(images), *self._task.geometry)
        return OCTET_STREAM, header + images.tobytes()

    def _stop_sharing(self, reason: str) -> None:
        if self._shared:
            log.warning("%s: pixels are sent as bytes from now on", reason)
            self._shared = False

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        if isinstance(self._address, int):
            alone = functools.partial(_Connection, self._idle, self._task, "")
            return (await loop.create_connection(alone, "127.0.0.1", self._address))[1]
        authorization = f"Authorization: {self._address.authorization()}\r\n"
        connection = functools.partial(_Connection, self._idle, self._task, authorization)
        return (await loop.create_unix_connection(connection, str(self._address.inference)))[1]


class _Connection(asyncio.Protocol):
    """A persistent connection with one request at a time."""

    def __init__(self, idle: "list[_Connection]", task: Task, authorization: str) -> None:
        """`authorization` is the line with the key that TorchServe asks for, or ""."""
        self._idle = idle
        self.authorization = authorization
        self._task = task
        self._head = _HEAD % task.name
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._pixels: Writer | None = None
        self.reusable = False

    def share(self, images: Pixels, max_images: int) -> bytes:
        """Write images to shared memory, and return the message that tells the worker where.

        Each connection has its own memory and one request at a time, so no pixels are overwritten while they are read:
        a request that is abandoned closes its connection.
        """
        if self._pixels is None:
            self._pixels = Writer(max_images, self._task.geometry)
        return self._pixels.write(images)

    def post(self, kind: str, body: bytes, headers: str) -> "asyncio.Future[tuple[int, bytes]]":
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.reusable = False
        head = f"{self._head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self._transport.writelines([head.encode(), body])
        return self._answer

    def close(self) -> None:
        self._transport.close()

    # asyncio's events
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self._transport.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        # It may be among the idle ones, where the next batch would use it.
        if self in self._idle:
            self._idle.remove(self)
        self.reusable = False
        if self._pixels is not None:
            self._pixels.close()
        self._fail(error or ConnectionResetError("it closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    # httptools' events
    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result((self._parser.get_status_code(), b"".join(self._body)))
