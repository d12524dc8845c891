"""This service beside TorchServe as shipped and tuned, and FastAPI: one run, interleaved, every label checked."""

import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import aims, load, servers
from benchmarks.client import classify_packed, classify_singly
from benchmarks.load import Bodies, Load, RunFailed
from benchmarks.machine import machine
from benchmarks.photographs import per_cpu_second
from benchmarks.report import markdown, table
from benchmarks.servers import Server
from benchmarks.stock import expected_labels, stock_torchserve
from fashion_mnist.data import dataset
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import Engine, open_engine
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit
from fashion_mnist.task import FASHION_MNIST

CONNECTIONS: Final = (1, 32, 64)
CYCLED: Final = 256
"""Different images that the load generator sends, over and over."""
PACKED: Final = 1024
OCTET_STREAM: Final = "application/octet-stream"


class Size(NamedTuple):
    """How long a run is."""

    repeats: int
    seconds: int
    """Of one load."""
    checked: int
    """Images whose labels are checked."""
    memory_requests: int


FULL: Final = Size(repeats=3, seconds=3, checked=10_000, memory_requests=200_000)
QUICK: Final = Size(repeats=1, seconds=1, checked=200, memory_requests=2000)


def run(output: Path, *, device: str = "cpu", quick: bool = False) -> dict[str, Any]:
    """Measure, print and write results.json and results.md to `output`; the figures.

    With `device` "cuda" this service and ONNX Runtime compute on a GPU; TorchServe as shipped takes one where its torch
    can, and FastAPI's environment has none.

    Raises RunFailed on any failed request or wrong label: such a run has no figures.
    """
    load.require_wrk()
    console = Console()
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="fm-") as name, console.status("starting the servers") as status:
        comparison = _Comparison(Path(name), size, device, status.update)
        with contextlib.ExitStack() as stack:
            comparison.start(stack)
            comparison.check_labels()
            single = comparison.single()
            packed = comparison.packed()
            memory = comparison.memory()
            photographs = comparison.photographs()
            comparison.check_labels()
        cores = comparison.cores()
    results = {
        "machine": {"name": machine(device), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torchserve", "torch", "onnxruntime", "numpy")},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": size.repeats,
        "seconds": size.seconds,
        "labels_checked": size.checked,
        "single": single,
        "packed": packed,
        "memory": memory,
        "photographs": photographs,
        "cores": cores,
        "png_decode_us": round(comparison.decode_us(), 1),
    }
    results["aims"] = aims.reached(results)
    for part in table(results):
        console.print(part)
    atomic.write_text(output / "results.json", json.dumps(results, indent=2) + "\n")
    atomic.write_text(output / "results.md", markdown(results))
    console.print(f"written: {output / 'results.json'} and {output / 'results.md'}")
    return results


class _Comparison:
    """The images, the servers, and what is done with them."""

    def __init__(self, folder: Path, size: Size, device: str, tell: Callable[[str], None]) -> None:
        settings = Settings.from_environment(device=device)
        self._store = model_store_path(settings)
        self._folder = folder
        self._size = size
        self._device = device
        self._tell = tell
        self._limits = Limits.from_settings(settings)
        self._images = dataset.load(settings.data).test.images[: size.checked]
        self._packed = self._images[np.arange(PACKED) % len(self._images)]
        self._engine: Engine = open_engine(self._store, "onnx", device, threads=settings.threads)
        pngs = [encode_image(image) for image in self._images]
        raws = [image.tobytes() for image in self._images]
        self._sent = {"png": (pngs, "image/png"), "raw": (raws, OCTET_STREAM)}
        self._bodies = {
            kind: Bodies.write(folder / kind, bodies[:CYCLED], content_type)
            for kind, (bodies, content_type) in self._sent.items()
        }
        self._bodies["binary"] = Bodies.write(
            folder / "binary", [self._packed.tobytes()], OCTET_STREAM, accept=OCTET_STREAM
        )
        self._bodies["json"] = Bodies(folder / "binary", 1, OCTET_STREAM)
        self._servers: dict[str, Server] = {}

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start every server that is measured beside the others."""
        weights = self._store / "weights.pt"
        image = self._images[0]
        folder = self._folder
        for name, starting in {
            "stock": stock_torchserve(weights, folder / "stock", image),
            "stock, one thread": stock_torchserve(weights, folder / "one", image, threads=1),
            "FastAPI": servers.fastapi(folder / "fastapi", tuned=False),
            "FastAPI, tuned": servers.fastapi(folder / "tuned", tuned=True),
            "TorchServe, tuned": servers.torchserve_alone(folder / "ts32", batch_size=32, device=self._device),
            "TorchServe, batch 1": servers.torchserve_alone(folder / "ts1", batch_size=1, device=self._device),
            "gateway + TorchServe": servers.fashion_mnist(folder / "front", "torchserve", self._device),
            "gateway, embedded": servers.fashion_mnist(folder / "embedded", "embedded", self._device),
        }.items():
            self._tell(f"starting: {name}")
            self._servers[name] = stack.enter_context(starting)

    def check_labels(self) -> None:
        """Compare what every server says of every image with what it must say. Raises RunFailed."""
        stock = expected_labels(self._store / "weights.pt", self._images)
        ours = self._engine.predict(self._images).argmax(axis=1).tolist()
        for name, server in self._servers.items():
            for kind, (bodies, content_type) in self._sent.items():
                if (name, kind) in _left_out(self._servers):
                    continue
                self._tell(f"checking the labels of {self._size.checked:,} images: {name}, {kind}")
                found = classify_singly(server.url, bodies, content_type)
                self._compare(f"{name}, {kind}", found, stock if name.startswith("stock") else ours)
            if name.startswith("gateway"):
                self._compare(f"{name}, packed", classify_packed(server.url, self._images), ours)

    def single(self) -> list[dict[str, Any]]:
        """Single images: the medians of each server's figures, for each kind of body and number of connections."""
        series = [
            (name, kind)
            for name in self._servers
            for kind in self._sent
            if (name, kind) not in _left_out(self._servers)
        ]
        measured: dict[tuple[str, str, int], list[Load]] = {}
        for name, kind in series:
            self._tell(f"warming up: {name}, {kind}")
            self._load(self._servers[name], kind, 32)
        for repeat in range(self._size.repeats):
            for connections in CONNECTIONS:
                for name, kind in series:
                    self._tell(
                        f"repeat {repeat + 1} of {self._size.repeats}: {name}, {kind}, {connections} connections"
                    )
                    found = self._load(self._servers[name], kind, connections)
                    measured.setdefault((name, kind, connections), []).append(found)
        return [_median(key, loads) for key, loads in measured.items()]

    def packed(self) -> dict[str, float]:
        """Images a second: ONNX Runtime in this process, and bodies of 1,024 through our servers, interleaved."""
        self._tell("packed bodies against ONNX Runtime alone")
        rates: dict[str, list[float]] = {}
        for _ in range(self._size.repeats):
            alone = _per_second(lambda: self._engine.predict(self._packed), self._size.seconds)
            rates.setdefault("ONNX Runtime", []).append(alone * PACKED)
            for name in ("gateway + TorchServe", "gateway, embedded"):
                for kind in ("binary", "json"):
                    found = self._load(self._servers[name], kind, 2)
                    rates.setdefault(f"{name}, {kind}", []).append(found.per_second * PACKED)
        return {name: round(statistics.median(found)) for name, found in rates.items()}

    def memory(self) -> dict[str, Any]:
        """Resident memory of gateway, JVM and worker, in MiB, before and after many requests."""
        self._tell(f"memory over {self._size.memory_requests:,} requests")
        server = self._servers["gateway + TorchServe"]
        before, sent = server.rss_mb(), 0
        while sent < self._size.memory_requests:
            sent += self._load(server, "raw", 64).requests
        after = server.rss_mb()
        return {
            "requests": sent,
            "mb": {name: [round(before[name], 1), round(after[name], 1)] for name in before},
        }

    def photographs(self) -> dict[str, float]:
        """Photographs of 12 megapixels a second of processor time: FastAPI with Pillow, and this service."""
        self._tell("photographs of 12 megapixels")
        asked = {name: self._servers[name] for name in ("FastAPI", "FastAPI, tuned", "gateway, embedded")}
        folder = self._folder / "photographs"
        return per_cpu_second(asked, folder, self._size.seconds, self._size.repeats)

    def cores(self) -> list[dict[str, Any]]:
        """Images for each second of processor time of all a server's processes, with one and with two of each."""
        rows = []
        with contextlib.ExitStack() as stack:
            pairs = {
                f"{engine}, {count}": stack.enter_context(
                    servers.fashion_mnist(self._folder / f"{engine}-{count}", engine, self._device, **{what: count})
                )
                for engine, what in (("embedded", "gateways"), ("torchserve", "workers"))
                for count in (1, 2)
            }
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
            for repeat in range(self._size.repeats):
                for name, server in pairs.items():
                    self._tell(f"one and two processes, repeat {repeat + 1} of {self._size.repeats}: {name}")
                    before = server.cpu_s()
                    loaded = self._load(server, "binary", 4)
                    used = server.cpu_s() - before
                    found[name].append((loaded.requests * PACKED / used, loaded.per_second * PACKED))
            for name, measured in found.items():
                per_cpu_s, per_s = (statistics.median(column) for column in zip(*measured, strict=True))
                rows.append({"server": name, "images_per_cpu_s": round(per_cpu_s), "images_per_s": round(per_s)})
        return rows

    def decode_us(self) -> float:
        """Microseconds to decode one PNG: the best of many rounds, which is when nothing else ran."""
        pngs = self._sent["png"][0][:CYCLED]
        rounds = timeit.repeat(
            lambda: [decode(png, "image/png", self._limits, FASHION_MNIST) for png in pngs], number=1, repeat=50
        )
        return min(rounds) / len(pngs) * 1e6

    def _load(self, server: Server, kind: str, connections: int) -> Load:
        return load.run(server.url, self._bodies[kind], connections=connections, seconds=self._size.seconds)

    def _compare(self, what: str, found: list[int], right: list[int]) -> None:
        if wrong := sum(one != other for one, other in zip(found, right, strict=True)):
            raise RunFailed(f"{what}: {wrong} of {len(right)} labels are not the model's")


def _left_out(names: dict[str, Server]) -> set[tuple[str, str]]:
    """The stock handler takes no raw pixels."""
    return {(name, "raw") for name in names if name.startswith("stock")}


def _median(key: tuple[str, str, int], loads: list[Load]) -> dict[str, Any]:
    """The median of each figure over the repeats, and the spread of the rate."""
    name, kind, connections = key
    rates = [found.per_second for found in loads]
    medians = {field: statistics.median(asdict(found)[field] for found in loads) for field in ("p50_ms", "p99_ms")}
    return {
        "server": name,
        "body": kind,
        "connections": connections,
        "per_second": round(statistics.median(rates)),
        "lowest": round(min(rates)),
        "highest": round(max(rates)),
        **{field: round(value, 2) for field, value in medians.items()},
    }


def _per_second(call: Callable[[], NDArray[np.float32]], seconds: float) -> float:
    call()
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls / elapsed
