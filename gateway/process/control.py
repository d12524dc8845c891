"""What the supervisor asks of a gateway, by a socket that only its user can reach."""

import asyncio
import json
import logging
from typing import Final

from fashion_mnist.errors import FashionMNISTError, NotFound
from fashion_mnist.predictions import JSON, Answer
from gateway.app import Service, predict
from gateway.models.registry import NATIVE, Models
from gateway.models.versions import Versions
from gateway.types.request import Request

log = logging.getLogger(__name__)

VERSIONS: Final = "/versions"
"""Where `Versions` are put, as JSON; the answer comes when they are served."""

NUMBERED: Final = "/versions/"
"""What stands before a version's number where images are sent to it, also before clients may ask for it."""


class Control:
    """The pages of that socket: these two, and all those of the public service."""

    def __init__(self, service: Service, models: Models) -> None:
        self._service = service
        self._models = models
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, request: Request) -> None:
        """Answer a request, now or later."""
        url = request.url.decode("latin-1")
        if url == VERSIONS and request.method == b"PUT":
            task = asyncio.get_running_loop().create_task(self._apply(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif url.startswith(NUMBERED):
            number = url.removeprefix(NUMBERED)
            model = self._models.numbered(int(number)) if number.isdecimal() else None
            if model is None:
                request.answer_error(NotFound(f"there is no version with the number {number[:20]!r}"))
            else:
                predict(self._service, model.routes[NATIVE], request)
        else:
            self._service.handle(request)

    async def _apply(self, request: Request) -> None:
        try:
            await self._models.apply(Versions.from_mapping(json.loads(request.body)))
        except FashionMNISTError as error:
            request.answer_error(error)
        except Exception as error:
            log.exception("the versions could not be changed")
            request.answer_error(FashionMNISTError(f"a gateway failed: {type(error).__name__}; its log says more"))
        else:
            request.answer(Answer(200, JSON, b"{}"))
