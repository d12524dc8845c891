"""What the page is served by GET: its own files, those of the model, and how the service is."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fashion_mnist.errors import FashionMNISTError, NotFound
from fashion_mnist.model_store import MISTAKES, model_card
from fashion_mnist.predictions import JSON, Answer
from fashion_mnist.preparation import MODES
from fashion_mnist.settings import Settings
from fashion_mnist.task import sample_file
from gateway.http.keys import PREDICT, Keyring, is_loopback
from gateway.http.static import File, Folder
from gateway.models.registry import Models
from gateway.models.versions import accuracy
from gateway.observability.traffic import Traffic
from gateway.protocols import native
from gateway.types.request import Request
from gateway.web import model_files
from gateway.web.headers import STRICT, SWAGGER

FILES: Final = b"/page/"
DOCS: Final = b"/docs"
STATUS: Final = b"/status.json"
OPEN: Final = frozenset((b"/", DOCS, STATUS))
"""What those are served who have no key, and what is behind FILES."""

_CONFIG: Final = "config.json"
_FOLDER: Final = Path(__file__).resolve().parents[2] / "page"
_OF_DOCS: Final = ("docs.html", "icon.svg", "swagger/")
"""What `/docs` needs, which is there without the page."""

Handler = Callable[[Request], None]
Fail = Callable[[Request, FashionMNISTError], None]


def is_on(settings: Settings) -> bool:
    """Whether the page is served: as the setting says, or on loopback alone."""
    return settings.page == "on" or (settings.page == "auto" and is_loopback(settings.host))


class Web:
    """What browsers are served by one gateway."""

    def __init__(
        self, settings: Settings, models: Models, traffic: Traffic, keyring: Keyring | None, fail: Fail
    ) -> None:
        """`fail` refuses a request with an error."""
        self._settings = settings
        self._models = models
        self._traffic = traffic
        self._keyring = keyring
        self._fail = fail
        self._folder = Folder(_FOLDER, FILES.decode())
        self.on = is_on(settings)

    @property
    def _of_model(self) -> Mapping[str, File]:
        """The files of the default version, by name."""
        return self._models.default.files

    def find(self, path: bytes) -> Handler | None:
        """What answers GET at a path; None where that is no path of the page."""
        if path == DOCS:
            return functools.partial(self._send_file, "docs.html", SWAGGER)
        if path.startswith(FILES):
            return functools.partial(self._send_file, path[len(FILES) :].decode("latin-1"), STRICT)
        if not self.on:
            return None
        if path == b"/":
            return functools.partial(self._send_file, "index.html", STRICT)
        if path == STATUS:
            return self._send_status
        name = path[1:].decode("latin-1")
        return functools.partial(self._send_of_model, name) if name in model_files.NAMES else None

    def _send_file(self, name: str, headers: bytes, request: Request) -> None:
        if self.on and name == _CONFIG:
            _send_json(request, self._config(), b"Cache-Control: no-cache\r\n" + headers)
            return
        found = self._folder.find(name)
        if found is None and name in self._of_model and name not in model_files.NAMES:
            request.answer(self._of_model[name].answer(request.head), headers)
        elif found is None or not (self.on or name.removeprefix(f"{self._folder.hash}/").startswith(_OF_DOCS)):
            self._fail(request, NotFound(f"there is no file {name[:80]!r}: load the page again"))
        else:
            file, cache = found
            request.answer(file.answer(request.head, cache), headers)

    def _send_of_model(self, name: str, request: Request) -> None:
        if name in self._of_model:
            request.answer(self._of_model[name].answer(request.head))
        else:
            self._fail(request, NotFound(model_files.NAMES[name]))

    def _config(self) -> dict[str, Any]:
        """What the page must know before it asks anything."""
        settings, task = self._settings, self._models.task
        samples = {label: sample_file(label) for label in task.classes}
        return {
            "task": {"name": task.name, "classes": list(task.classes), "geometry": task.geometry._asdict()},
            "default_version": self._models.default.version.name,
            "keys": self._keyring is not None,
            "explain": model_files.NETWORK in self._of_model,
            "mistakes": MISTAKES in self._of_model,
            "prepare": settings.prepare,
            "modes": list(MODES),
            "limits": {name: getattr(settings, name) for name in ("max_body_bytes", "max_pixels", "max_images")},
            "predict": native.path(task).decode(),
            "samples": [
                {"label": label, "url": f"{FILES.decode()}{name}"}
                for label, name in samples.items()
                if name in self._of_model
            ],
        }

    def _send_status(self, request: Request) -> None:
        _send_json(request, self._status(request.head.authorization), b"Cache-Control: no-store\r\n")

    def _status(self, authorization: str) -> dict[str, Any]:
        """How the service is; those without a key learn whether it is ready, and no more."""
        models, default = self._models, self._models.default
        status: dict[str, Any] = {"ready": default.health.ready, "keys": self._keyring is not None}
        if self._keyring is not None and self._keyring.refusal(authorization, PREDICT) is not None:
            return status
        if not default.health.ready:
            status["reason"] = default.health.reason
        return {
            **status,
            "default_version": default.version.name,
            "versions": [
                {
                    "version": name,
                    "default": model is default,
                    "ready": model.health.ready,
                    "accuracy": accuracy(model_card(model.version.folder)),
                }
                for name, model in models.open.items()
            ],
            "traffic": self._traffic.report(),
            "drift": self._traffic.drift(default.reference),
        }


def _send_json(request: Request, content: Any, headers: bytes) -> None:
    more = b"X-Content-Type-Options: nosniff\r\n"
    request.answer(Answer(200, JSON, json.dumps(content).encode()), headers + more)
