"""The servers that are measured: started, awaited until they answer rightly, ended with all their processes."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks import environments
from benchmarks.client import classify_singly
from benchmarks.load import RunFailed
from export import archive
from fashion_mnist.classes import CLASSES
from fashion_mnist.model_store import HEALTH_IMAGE, model_store_path, model_version, read_health_image
from fashion_mnist.settings import PREFIX, Settings
from serving import config, processes, readiness, state
from serving.torchserve import TorchServe

START_S: Final = 90.0
STOP_S: Final = 10.0
POLL_S: Final = 0.1

MARKS: Final = {"gateway": "gateway.process.worker", "worker": "model_service_worker", "JVM": "ModelServer"}
"""What the command line of each kind of process has, by what a person would name it."""


@dataclass(frozen=True)
class Server:
    """A running server: where it predicts, and the process at the root of all its own."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds of processor time that its processes have used; of those that still run."""
        return sum(sum(process.cpu_times()[:2]) for process in processes.tree(self.pid))

    def grpc_url(self) -> str:
        """Where it takes calls. Raises RunFailed where it left no word of that."""
        address = urlsplit(self.url)
        if (running := state.read(address.port or 0)) is None:
            raise RunFailed("the server left no word of its port of gRPC")
        return f"http://{address.hostname}:{running.grpc_port}"

    def rss_mb(self) -> dict[str, float]:
        """Resident memory in MiB by what the process is, as a person would name it."""
        found: dict[str, float] = {}
        for process in processes.tree(self.pid):
            line = " ".join(process.cmdline())
            for name, mark in MARKS.items():
                if mark in line:
                    found[name] = found.get(name, 0.0) + process.memory_info().rss / 2**20
        return found


@contextmanager
def fashion_mnist(folder: Path, engine: str, device: str = "cpu", **settings: int | str) -> Iterator[Server]:
    """`fashion-mnist serve` as people run it, with its output in a file of `folder`. Raises RunFailed."""
    folder.mkdir()
    said = folder / "output"
    chosen = {
        "host": config.LOOPBACK,
        "port": 0,
        "admin_port": 0,
        "grpc_port": 0,
        "device": device,
        "engine": engine,
        **settings,
    }
    environment = os.environ | {f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items()}
    command: list[str | Path] = [Path(sys.executable).parent / "fashion-mnist", "serve"]
    with said.open("wb") as output:
        process = processes.start(command, environment, Path.cwd(), output)
    try:
        deadline = time.monotonic() + START_S
        while not (ready := re.search(r"^ready: (\S+)", said.read_text(), flags=re.MULTILINE)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunFailed(f"fashion-mnist serve did not become ready: {said.read_text()[-500:]}")
            time.sleep(POLL_S)
        yield Server(ready[1], process.pid)
    finally:
        processes.stop(process, STOP_S)


@contextmanager
def torchserve_alone(folder: Path, *, batch_size: int, device: str = "cpu") -> Iterator[Server]:
    """Our TorchServe, tuned as it is behind the gateway, without the gateway."""
    chosen = Settings.from_environment(port=0, device=device, batch_size=batch_size)
    store = model_store_path(chosen)
    (port,) = config.free_ports(1)
    with TorchServe(chosen, store, folder, port=port) as server:
        server.prepare(lambda path: archive.build(chosen, store, path))
        server.start()
        server.wait_until_ready()
        yield Server(server.url, server.pid)


@contextmanager
def fastapi(folder: Path, *, tuned: bool) -> Iterator[Server]:
    """FastAPI, uvicorn and ONNX Runtime in one process: as their pages have it, or as somebody who knows them would.

    Tuned: one thread of ONNX Runtime, which for one image at a time is faster than two, and no line of log a request.
    """
    store = model_store_path(Settings.from_environment())
    folder.mkdir()
    port = config.free_ports(1)[0]
    command: list[str | Path] = [environments.python("fastapi"), "-m", "uvicorn", "fastapi_app:app"]
    command += ["--app-dir", Path(__file__).parent, "--host", config.LOOPBACK, "--port", str(port)]
    command += ["--no-access-log"] if tuned else []
    environment = os.environ | {
        "MODEL": str(store / "model.onnx"),
        "VERSION": model_version(store),
        "CLASSES": json.dumps(CLASSES),
        "THREADS": "1" if tuned else "",
    }
    url = readiness.url(config.LOOPBACK, port)
    with started(command, environment, folder) as process:
        wait_until_right(url, process)
        yield Server(url, process.pid)


@contextmanager
def started(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, fds: Sequence[int] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process whose output goes to a file of `folder`; leaving it ends it."""
    with (folder / "output").open("wb") as output:
        process = processes.start(command, environment, folder, output, pass_fds=fds)
    try:
        yield process
    finally:
        processes.stop(process, STOP_S)


def wait_until_right(
    url: str,
    process: "subprocess.Popen[bytes]",
    image: bytes | None = None,
    label: int = CLASSES.index(HEALTH_IMAGE[1]),
) -> None:
    """Wait until a PNG, by default the health-check image, gets its label. Raises RunFailed, also after START_S."""
    png = read_health_image(model_store_path(Settings.from_environment())) if image is None else image
    wait_for_label(
        url, lambda: classify_singly(url, [png], "image/png", threads=1), label, lambda: process.poll() is None
    )


def wait_for_label(url: str, classify: Callable[[], list[int]], label: int, runs: Callable[[], bool]) -> None:
    """Wait until `classify` gives one image's label, as long as `runs` says that the server does.

    Raises RunFailed, at the latest after START_S.
    """
    deadline = time.monotonic() + START_S
    while True:
        try:
            found = classify()
            if found == [label]:
                return
            said = f"it gives {found} instead of {[label]}"
        except RunFailed as error:
            said = error.message
        if not runs():
            raise RunFailed(f"{url} ended before it was ready: {said}")
        if time.monotonic() > deadline:
            raise RunFailed(f"{url} was not ready within {START_S:g} s: {said}")
        time.sleep(POLL_S)
