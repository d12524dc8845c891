"""The pages of the admin port by which versions of the model are listed, loaded, made the default and unloaded.

`fashion-mnist models` asks them. Their paths are those of TorchServe's management API, less the model's name.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fashion_mnist.errors import BadJSON, BodyTooLarge, FashionMNISTError, Forbidden, MethodNotAllowed
from fashion_mnist.predictions import answer_error
from gateway.process.rollout import Rollout

MODELS: Final = "/models"
MOST_BYTES: Final = 16 * 1024
_SHAPE: Final = '{"folder": "/path/on/the/server", "without_data": false}'


def routes(rollout: Rollout) -> list[Route]:
    """`GET /models`, `POST /models`, `PUT /models/VERSION/set-default` and `DELETE /models/VERSION`."""

    async def models(request: Request) -> Any:
        if request.method in ("GET", "HEAD"):
            return {"versions": await run_in_threadpool(rollout.listed)}
        if request.method != "POST":
            raise MethodNotAllowed("ask by GET, or load a version by POST")
        folder, without_data = _wanted(await _body(request))
        return await run_in_threadpool(rollout.load, folder, without_data=without_data)

    async def use(request: Request) -> Any:
        if request.method != "PUT":
            raise MethodNotAllowed("make a version the default by PUT")
        version = request.path_params["version"]
        await run_in_threadpool(rollout.use, version)
        return {"version": version, "default": True}

    async def unload(request: Request) -> Any:
        if request.method != "DELETE":
            raise MethodNotAllowed("unload a version by DELETE")
        version = request.path_params["version"]
        await run_in_threadpool(rollout.unload, version)
        return {"version": version, "unloaded": True}

    pages: dict[str, Callable[[Request], Any]] = {
        MODELS: models,
        f"{MODELS}/{{version}}/set-default": use,
        f"{MODELS}/{{version}}": unload,
    }
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]  # those that are none get our words
    return [Route(path, _answering(page), methods=methods) for path, page in pages.items()]


def _answering(page: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """The answer of a page as JSON, or its error in our words."""

    async def answer(request: Request) -> Response:
        try:
            # A page in somebody's browser may send to this machine, without knowing what comes back. It must say so.
            if request.method not in ("GET", "HEAD") and "origin" in request.headers:
                raise Forbidden("versions are not changed by pages in a browser: use `fashion-mnist models`")
            return JSONResponse(await page(request))
        except FashionMNISTError as error:
            found = answer_error(error)
            return Response(found.body, found.status, {"content-type": found.content_type})

    return answer


async def _body(request: Request) -> bytes:
    found = b""
    try:
        async for chunk in request.stream():
            found += chunk
            if len(found) > MOST_BYTES:
                raise BodyTooLarge(f"more than {MOST_BYTES:,} bytes: send {_SHAPE}")
    except ClientDisconnect:
        raise BadJSON("the body did not come whole") from None
    return found


def _wanted(body: bytes) -> tuple[Path, bool]:
    """The folder to load, and whether without held-out images. Raises BadJSON."""
    try:
        document = json.loads(body)
        folder, without_data = document.pop("folder"), document.pop("without_data", False)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise BadJSON(f"the body names no folder: send {_SHAPE}") from None
    if document or not isinstance(folder, str) or not isinstance(without_data, bool):
        raise BadJSON(f"the body is another: send {_SHAPE}")
    if not folder.startswith("/") or "\0" in folder or not _is_text(folder):
        raise BadJSON(f"the folder is {folder[:80]!a}: send its whole path on the server's machine, from / on")
    return Path(folder), without_data


def _is_text(path: str) -> bool:
    """Whether a path can be written in bytes: JSON can name halves of characters."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
