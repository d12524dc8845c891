"""The same service behind the doors of others: RSGI, ASGI and Starlette. See `benchmarks.doors`."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fashion_mnist.classes import GEOMETRY
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import FashionMNISTError, InputError
from fashion_mnist.model_store import model_store_path, model_version, unknown_threshold
from fashion_mnist.predictions import Answer, Form, answer, answer_error
from fashion_mnist.settings import Settings
from gateway.batching import Batcher, Job
from gateway.engines.embedded import EmbeddedEngine

_settings = Settings(device="cpu")
_store = model_store_path(_settings)
_limits = Limits.from_settings(_settings)
_version = model_version(_store)
_threshold = unknown_threshold(_store)
_batcher = Batcher(EmbeddedEngine(_settings, _store), _settings.max_waiting_images)
_FORM = Form()


class _Waited(Job):
    """A job that a coroutine waits for."""

    def __init__(self, pixels: Any) -> None:
        super().__init__(pixels)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self, error: FashionMNISTError | None) -> None:
        """Wake the coroutine."""
        if error is None:
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)


async def _predict(body: bytes, content_type: str) -> Answer:
    try:
        decoded = decode(body, content_type, _limits, GEOMETRY)
    except InputError as error:
        return answer_error(error)
    job = _Waited(decoded.pixels)
    _batcher.submit(job)
    await job.answered
    return answer(job.probabilities, decoded, _version, _threshold, _FORM, job.rows(_threshold))


async def rsgi(scope: Any, protocol: Any) -> None:
    """https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md"""
    found = await _predict(await protocol(), scope.headers.get("content-type", ""))
    protocol.response_bytes(found.status, [("content-type", found.content_type)], found.body)


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """https://asgi.readthedocs.io/en/latest/specs/www.html"""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    content_type = next((value.decode() for name, value in scope["headers"] if name == b"content-type"), "")
    found = await _predict(body, content_type)
    headers = [(b"content-type", found.content_type.encode()), (b"content-length", b"%d" % len(found.body))]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": found.body})


async def _endpoint(request: Request) -> Response:
    found = await _predict(await request.body(), request.headers.get("content-type", ""))
    return Response(found.body, found.status, media_type=found.content_type)


starlette_app = Starlette(routes=[Route("/predictions/fashion_mnist", _endpoint, methods=["POST"])])
