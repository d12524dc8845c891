"""What stands between a socket and the line of images: the gateway's own connection, or a server of others.

Each of them decodes, batches, computes and writes answers by the same code, so that what differs is the door.
"""

import contextlib
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from benchmarks import environments, load, servers
from benchmarks.client import classify_singly
from benchmarks.load import Bodies, RunFailed
from benchmarks.report import markdown_table
from benchmarks.servers import Server
from fashion_mnist import dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from serving import config, readiness

CONNECTIONS: Final = (1, 64)
OCTETS: Final = "application/octet-stream"
GATEWAY: Final = "asyncio and llhttp (the gateway)"
DOORS: Final[Mapping[str, Sequence[str]]] = {
    "granian, RSGI": ("granian", "rsgi"),
    "granian, RSGI, runtime mt": ("granian", "rsgi", "--runtime-mode", "mt"),
    "granian, RSGI, runtime mt, two threads": ("granian", "rsgi", "--runtime-mode", "mt", "--runtime-threads", "2"),
    "granian, RSGI, runtime st": ("granian", "rsgi", "--runtime-mode", "st"),
    "granian, ASGI": ("granian", "asgi"),
    "uvicorn, ASGI": ("uvicorn", "asgi"),
    "uvicorn, Starlette": ("uvicorn", "starlette_app"),
}
"""Server, application in `benchmarks.door_apps`, and options."""


def run(*, quick: bool = False) -> str:
    """Measure and print a Markdown table; returns it. Raises RunFailed on any failed request or wrong label."""
    load.require_wrk()
    repeats, seconds = (1, 1) if quick else (3, 3)
    settings = Settings.from_environment(device="cpu")
    images = dataset.load(settings.data).test.images[:256]
    bodies = [image.tobytes() for image in images]
    expected = open_engine(model_store_path(settings), "onnx", "cpu").predict(images).argmax(axis=1)
    rates: dict[tuple[str, int], list[load.Load]] = {}
    with tempfile.TemporaryDirectory(prefix="fm-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        sent = Bodies.write(folder / "raw", bodies, OCTETS)
        doors = {GATEWAY: stack.enter_context(servers.gateway_alone(folder / "ours"))}
        for place, (door, (server_name, app, *options)) in enumerate(DOORS.items()):
            doors[door] = stack.enter_context(_other(folder / str(place), server_name, app, options))
        for door, server in doors.items():
            if not np.array_equal(classify_singly(server.url, bodies, OCTETS), expected):
                raise RunFailed(f"{door}: wrong labels")
            load.run(server.url, sent, connections=32, seconds=seconds)
        for _ in range(repeats):
            for connections in CONNECTIONS:
                for door, server in doors.items():
                    found = load.run(server.url, sent, connections=connections, seconds=seconds)
                    rates.setdefault((door, connections), []).append(found)
    rows = [
        [
            door,
            f"{statistics.median(found.p50_ms for found in rates[door, 1]):.2f}",
            f"{statistics.median(found.per_second for found in rates[door, 64]):,.0f}",
            f"{statistics.median(found.p99_ms for found in rates[door, 64]):.1f}",
        ]
        for door in doors
    ]
    heading = ["door", "1 connection: p50, ms", "64 connections: requests/s", "p99, ms"]
    table = "\n".join(markdown_table(heading, rows))
    Console(soft_wrap=True, highlight=False).print(table)
    return table


@contextlib.contextmanager
def _other(folder: Path, server: str, interface: str, options: Sequence[str]) -> Iterator[Server]:
    """A server of others in front of `benchmarks.door_apps`."""
    folder.mkdir()
    python = environments.python("granian")
    port = config.free_ports(1)[0]
    address = ["--host", config.LOOPBACK, "--port", str(port)]
    app = f"benchmarks.door_apps:{interface}"
    if server == "granian":
        kind = "rsgi" if interface == "rsgi" else "asgi"
        command: list[str | Path] = [
            python,
            "-m",
            "granian",
            *address,
            "--interface",
            kind,
            "--loop",
            "uvloop",
            "--no-access-log",
            *options,
            app,
        ]
    else:
        command = [python, "-m", "uvicorn", *address, "--no-access-log", app]
    environment = os.environ | {"PYTHONPATH": str(environments.ROOT)}
    url = readiness.url(config.LOOPBACK, port)
    with servers.started(command, environment, folder) as process:
        servers.wait_until_right(url, process)
        yield Server(url, process.pid)
