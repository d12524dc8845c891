"""True readiness: a real image gets its right label. TorchServe's /ping says Healthy while its worker crash-loops."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

from fashion_mnist.model_store import model_store_path, model_task
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST, Task

PATH: Final = "/predictions/"
"""What stands before the task's name."""
READY: Final = "/health/ready"
LIVE: Final = "/health/live"
PING: Final = "/ping"
"""TorchServe's own page, which its JVM answers without a worker."""

TIMEOUT_S: Final = 2.0


def url(host: str, port: int, *, name: str = FASHION_MNIST.name, tls: bool = False) -> str:
    """The prediction endpoint as one reaches it from this machine: a server on every address is on loopback too."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}{PATH}{name}"


def own_url(settings: Settings) -> str:
    """The prediction endpoint of the server that these settings describe, as one reaches it from this machine."""
    name = model_task(model_store_path(settings)).name
    return url(settings.host, settings.port, name=name, tls=bool(settings.tls_certificate))


class NotReady(Exception):
    """The health-check image was not answered rightly; the message says what came instead."""


class Silent(NotReady):
    """Nothing came in time."""


class ModelNotLoaded(NotReady):
    """TorchServe answers, but without the model: it will not change its mind."""


class WrongLabel(NotReady):
    """The model takes the health-check image for something else: it will not change its mind either."""


def check_health_image(host: str, port: int, task: Task, image: bytes) -> dict[str, Any]:
    """Send the health-check image; the prediction, if it is the right one. Raises NotReady."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    return _ask(connection, f"{host}:{port}", task, image, PATH + task.name)


def check_health_image_at(
    private_socket: Path,
    task: Task,
    image: bytes,
    path: str = "",
    *,
    authorization: str = "",
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """The same through a socket in the file system, with a header of authorization if there is one. Raises NotReady."""
    connection = _PrivateConnection(private_socket, timeout_s)
    return _ask(connection, str(private_socket), task, image, path or PATH + task.name, authorization)


def ask_at(private_socket: Path) -> None:
    """Ask a gateway whether its own health check passes, which counts as no request. Raises NotReady."""
    status, content = _call(_PrivateConnection(private_socket), str(private_socket), "GET", READY)
    if status != http.client.OK:
        try:
            reason = json.loads(content)["reason"]
        except (ValueError, KeyError, TypeError):
            reason = f"it answers {status} {content[:200]!r}"
        raise NotReady(reason)


def ask_whether_alive(private_socket: Path, path: str, *, timeout_s: float, authorization: str = "") -> None:
    """Raise Silent where nothing comes in time, and NotReady where nobody is there."""
    connection = _PrivateConnection(private_socket, timeout_s)
    _call(connection, str(private_socket), "GET", path, authorization=authorization)


class _PrivateConnection(http.client.HTTPConnection):
    def __init__(self, private_socket: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = private_socket

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(
    connection: http.client.HTTPConnection, where: str, task: Task, image: bytes, path: str, authorization: str = ""
) -> dict[str, Any]:
    status, content = _call(connection, where, "POST", path, image, authorization)
    if status == http.client.NOT_FOUND:
        raise ModelNotLoaded(f"it answers {content[:200]!r}")
    try:
        prediction: dict[str, Any] = json.loads(content)["predictions"][0]
        label = prediction["label"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise NotReady(f"it answers {status} {content[:200]!r}") from None
    check = task.health_check
    if label != check.label:
        raise WrongLabel(f"it takes {check.image} for {label!r} instead of {check.label!r}")
    return prediction


def _call(
    connection: http.client.HTTPConnection,
    where: str,
    method: str,
    path: str,
    image: bytes | None = None,
    authorization: str = "",
) -> tuple[int, bytes]:
    """An answer's status and content. Raises NotReady where there is none."""
    try:
        headers = {"content-type": "image/png"} if image else {}
        connection.request(method, path, image, headers | ({"authorization": authorization} if authorization else {}))
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError:
        raise Silent(f"no answer on {where} within {connection.timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"no answer on {where} ({error or type(error).__name__})") from None
    finally:
        connection.close()
