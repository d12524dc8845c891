"""Servers of others around an application of ours in apps/, run by environments that have nothing else of ours."""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks import environments, servers
from benchmarks.client import classify_singly
from benchmarks.load import RunFailed
from benchmarks.peers.kinds import Kind
from benchmarks.servers import Server
from fashion_mnist.classes import CLASSES
from fashion_mnist.model_store import HEALTH_IMAGE, model_store_path, model_version, read_health_image
from fashion_mnist.settings import Settings
from serving import config

APPS: Final = Path(__file__).parent / "apps"
OIP_PATH: Final = "/v2/models/fashion_mnist/infer"


def fastapi_tuned(folder: Path, kind: Kind) -> AbstractContextManager[Server]:
    """FastAPI by uvicorn, which takes uvloop and httptools where they are there, as they are here.

    Two workers, one for each core: the load generator leaves most of its own to them.
    """
    port = config.free_ports(1)[0]
    arguments = ["fastapi_tuned_app:app", "--host", config.LOOPBACK, "--port", str(port)]
    arguments += ["--no-access-log", "--log-level", "error", "--workers", "2"]
    return _running("fastapi", "uvicorn", arguments, folder, f"{port}/predictions/fashion_mnist", kind, tuned=True)


def litserve(folder: Path, kind: Kind, *, tuned: bool) -> AbstractContextManager[Server]:
    """LitServe."""
    port = config.free_ports(1)[0]
    arguments: list[str | Path] = [APPS / "litserve_app.py", str(port)]
    return _running("litserve", "python", arguments, folder, f"{port}/predict", kind, tuned=tuned)


def bentoml(folder: Path, kind: Kind, *, tuned: bool) -> AbstractContextManager[Server]:
    """BentoML, which reports to nobody."""
    port = config.free_ports(1)[0]
    arguments = ["serve", "bentoml_app:FashionMNIST", "--host", config.LOOPBACK, "--port", str(port)]
    arguments += ["--working-dir", str(APPS)]
    said = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")}
    return _running("bentoml", "bentoml", arguments, folder, f"{port}/predict", kind, tuned=tuned, more=said)


def ray_serve(folder: Path, kind: Kind, *, tuned: bool) -> AbstractContextManager[Server]:
    """Ray Serve, on a Ray of its own without dashboard and reports of usage.

    Tuned as its page of performance says; the replica then also listens itself, and is asked past Ray's HTTP proxy.
    """
    proxy, replica = config.free_ports(2)
    arguments: list[str | Path] = [APPS / "ray_app.py", str(proxy), folder / "ray"]
    # By the second it listens on loopback, as by default on other systems; save the port of replicas for each other.
    more = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    if tuned:
        more |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replica)}
        more |= {"RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replica + 1)}
    return _running("ray", "python", arguments, folder, f"{replica if tuned else proxy}/", kind, tuned=tuned, more=more)


def mlserver(folder: Path, kind: Kind, *, tuned: bool) -> AbstractContextManager[Server]:
    """MLServer. Its setting `debug` is also that of its access log."""
    http, grpc, metrics = config.free_ports(3)
    settings = {"host": config.LOOPBACK, "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    if tuned:
        # Workers in processes of their own cost a request two queues; the model is done before the first is passed.
        settings |= {"debug": False, "parallel_workers": 0, "gzip_enabled": False, "metrics_endpoint": None}
    models = folder / "models"
    models.mkdir(parents=True)
    (models / "settings.json").write_text(json.dumps(settings))
    (models / "model-settings.json").write_text(
        json.dumps({"name": "fashion_mnist", "implementation": "mlserver_app.FashionMNIST"})
    )
    arguments = ["start", str(models)]
    return _running("mlserver", "mlserver", arguments, folder, f"{http}{OIP_PATH}", kind, tuned=tuned)


def kserve(folder: Path, kind: Kind, *, tuned: bool) -> AbstractContextManager[Server]:
    """KServe's Python server, without gRPC, which listens on every address."""
    port = config.free_ports(1)[0]
    arguments: list[str | Path] = [APPS / "kserve_app.py", "--http_port", str(port), "--enable_grpc", "false"]
    arguments += ["--enable_latency_logging", "false", "--workers", "1"] if tuned else []
    path = OIP_PATH if tuned else "/v1/models/fashion_mnist:predict"
    return _running("kserve", "python", arguments, folder, f"{port}{path}", kind, tuned=tuned)


@contextmanager
def _running(
    environment: str,
    program: str,
    arguments: Sequence[str | Path],
    folder: Path,
    place: str,
    kind: Kind,
    *,
    tuned: bool,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server at a port and path, once it predicts the health-check image right. Raises RunFailed."""
    folder.mkdir(exist_ok=True)
    store = model_store_path(Settings.from_environment())
    variables = {
        "MODEL": str(store / "model.onnx"),
        "VERSION": model_version(store),
        "CLASSES": json.dumps(CLASSES),
        "SETUP": "tuned" if tuned else "as documented",
        "PYTHONPATH": str(APPS),
        **(more or {}),
    }
    url = f"http://{config.LOOPBACK}:{place}"
    command = [environments.python(environment).parent / program, *arguments]
    with servers.started(command, os.environ | variables, folder) as process:
        try:
            wait_until_right(url, kind, lambda: process.poll() is None)
        except RunFailed as error:
            raise RunFailed(f"{error.message}; it said: {_last_words(folder / 'output')}") from None
        yield Server(url, process.pid)


def wait_until_right(url: str, kind: Kind, runs: Callable[[], bool]) -> None:
    """Wait until the health-check image, sent as `kind`, gets its label. Raises RunFailed, also after a timeout."""
    health_image = read_health_image(model_store_path(Settings.from_environment()))
    image = np.asarray(Image.open(io.BytesIO(health_image)))
    body, label = kind.write(image), CLASSES.index(HEALTH_IMAGE[1])

    def classify() -> list[int]:
        return classify_singly(url, [body], kind.content_type, threads=1, headers=kind.headers, read=kind.read)

    servers.wait_for_label(url, classify, label, runs)


def _last_words(output: Path) -> str:
    """The last line that is none of a traceback's frames."""
    lines = [line for line in output.read_text(errors="replace").splitlines() if line and not line.startswith(" ")]
    return lines[-1][-300:] if lines else "nothing"
