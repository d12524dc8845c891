"""TorchServe as shipped against ours: the run, its figures, and their report."""

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
from typing import Any, Final

import cv2
import numpy as np
import psutil
from rich.console import Console

from benchmarks import load
from benchmarks.client import classify_packed, classify_singly
from benchmarks.load import Bodies, RunFailed
from benchmarks.report import markdown, table
from benchmarks.stock import expected_labels, stock_torchserve
from export import archive
from fashion_mnist import atomic, dataset
from fashion_mnist.commit import commit
from fashion_mnist.engines import open_engine
from fashion_mnist.images import decode
from fashion_mnist.limits import Limits
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from serving import processes
from serving.torchserve import TorchServe

CONNECTIONS: Final = (1, 32, 64)
CYCLED: Final = 256
"""Different images that the load generator sends, over and over."""
PACKED: Final = 1024
MEMORY_REQUESTS: Final = 200_000
OCTETS: Final = "application/octet-stream"


def run(output: Path, *, quick: bool = False) -> dict[str, Any]:
    """Measure, print and write results.json and results.md to `output`; the figures.

    Raises RunFailed on any failed request or wrong label: such a run has no figures.
    """
    load.require_wrk()
    console = Console()
    repeats, seconds, checked, memory_requests = (1, 1, 500, 2000) if quick else (3, 5, 10_000, MEMORY_REQUESTS)
    settings = Settings.from_environment(port=0, device="cpu")
    store = model_store_path(settings)
    images = dataset.load(Path(settings.data) if settings.data else None).test.images[:checked]
    raws = [image.tobytes() for image in images]
    pngs = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    engine = open_engine(store, "onnx", "cpu", threads=settings.threads)
    expected = engine.predict(images).argmax(axis=1).tolist()
    expected_of_stock = expected_labels(store / "weights.pt", images)

    with contextlib.ExitStack() as stack, console.status("starting the servers") as status:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fm-")))
        png = Bodies.write(folder / "png", pngs[:CYCLED], "image/png")
        raw = Bodies.write(folder / "raw", raws[:CYCLED], OCTETS)
        packed = images[np.arange(PACKED) % len(images)].tobytes()
        packed_octets = Bodies.write(folder / "packed", [packed], OCTETS, accept=OCTETS)
        packed_json = Bodies(packed_octets.folder, 1, OCTETS)
        stock_urls = {
            name: stack.enter_context(
                stock_torchserve(store / "weights.pt", folder / name, pngs[0], expected_of_stock[0], threads=threads)
            )
            for name, threads in (("stock", None), ("one thread", 1))
        }
        ours = stack.enter_context(TorchServe(settings, store))
        ours.prepare(lambda path: archive.build(settings, store, path))
        ours.start()
        ours.wait_until_ready()

        def check_labels() -> None:
            status.update(f"checking the labels of {checked:,} images at all servers")
            for name, found, right in (
                *(
                    (f"{name}, PNG", classify_singly(url, pngs, "image/png"), expected_of_stock)
                    for name, url in stock_urls.items()
                ),
                ("ours, PNG", classify_singly(ours.url, pngs, "image/png"), expected),
                ("ours, raw", classify_singly(ours.url, raws, OCTETS), expected),
                ("ours, packed", classify_packed(ours.url, images), expected),
            ):
                if wrong := sum(one != other for one, other in zip(found, right, strict=True)):
                    raise RunFailed(f"{name}: {wrong} of {checked} labels are not the model's")

        check_labels()
        series = [(name, url, "png", png) for name, url in stock_urls.items()]
        series += [("ours", ours.url, "png", png), ("ours", ours.url, "raw", raw)]
        measured: dict[tuple[str, str, int], list[load.Load]] = {}
        for _, url, kind, bodies in series:
            status.update(f"warming up: {kind}")
            load.run(url, bodies, connections=32, seconds=max(1, seconds - 2))
        for repeat in range(repeats):
            for connections in CONNECTIONS:
                for name, url, kind, bodies in series:
                    status.update(f"repeat {repeat + 1} of {repeats}: {name}, {kind}, {connections} connections")
                    found = load.run(url, bodies, connections=connections, seconds=seconds)
                    measured.setdefault((name, kind, connections), []).append(found)
        status.update("packed bodies against ONNX Runtime alone")
        rates = _packed_rates(engine, images, ours.url, packed_octets, packed_json, repeats, seconds)
        status.update(f"memory over {memory_requests:,} requests")
        memory = _memory(ours, raw, memory_requests)
        check_labels()

    results = {
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torchserve", "torch", "onnxruntime-gpu", "numpy")},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": repeats,
        "seconds": seconds,
        "labels_checked": checked,
        "single": [_median(key, loads) for key, loads in measured.items()],
        "packed": rates,
        "memory": memory,
        "png_decode_us": round(_decode_us(pngs[:CYCLED]), 1),
    }
    results["ratios"] = _ratios(results)
    for part in table(results):
        console.print(part)
    atomic.write_text(output / "results.json", json.dumps(results, indent=2) + "\n")
    atomic.write_text(output / "results.md", markdown(results))
    console.print(f"written: {output / 'results.json'} and {output / 'results.md'}")
    return results


def _median(key: tuple[str, str, int], loads: list[load.Load]) -> dict[str, Any]:
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


def _packed_rates(
    engine: Any, images: np.ndarray, url: str, octets: Bodies, as_json: Bodies, repeats: int, seconds: int
) -> dict[str, float]:
    """Images a second: ONNX Runtime in this process, and bodies of 1,024 through the server, interleaved."""
    batch = images[np.arange(PACKED) % len(images)]
    rates: dict[str, list[float]] = {"onnxruntime": [], "octets": [], "json": []}
    for _ in range(repeats):
        rates["onnxruntime"].append(_per_second(lambda: engine.predict(batch), seconds) * PACKED)
        for name, bodies in (("octets", octets), ("json", as_json)):
            rates[name].append(load.run(url, bodies, connections=2, seconds=seconds).per_second * PACKED)
    return {name: round(statistics.median(found)) for name, found in rates.items()}


def _memory(server: TorchServe, bodies: Bodies, requests: int) -> dict[str, float]:
    """Resident memory of the worker, in MiB, before and after so many requests."""
    worker = max(processes.tree(server.pid)[1:], key=lambda process: int(process.memory_info().rss))
    before = _rss(worker)
    sent = 0
    while sent < requests:
        sent += load.run(server.url, bodies, connections=64, seconds=5 if requests == MEMORY_REQUESTS else 1).requests
    return {"requests": sent, "before_mb": before, "after_mb": _rss(worker)}


def _rss(process: psutil.Process) -> float:
    return float(round(process.memory_info().rss / 2**20, 1))


def _decode_us(pngs: list[bytes]) -> float:
    limits = Limits.from_settings(Settings())
    best = min(timeit.repeat(lambda: [decode(png, "image/png", limits) for png in pngs], number=1, repeat=20))
    return best / len(pngs) * 1e6


def _per_second(call: Callable[[], object], seconds: float) -> float:
    call()
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls / elapsed


def _ratios(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that were aimed at, with whether they were reached."""

    def rate(server: str, body: str) -> float:
        (row,) = (
            row
            for row in results["single"]
            if (row["server"], row["body"], row["connections"]) == (server, body, CONNECTIONS[-1])
        )
        return float(row["per_second"])

    # Against the better of the two, so that what is gained is not threads getting out of each other's way.
    stock = max(rate("stock", "png"), rate("one thread", "png"))
    memory = results["memory"]
    found = [
        ("PNG at 64 connections, against the better stock TorchServe", rate("ours", "png") / stock, 3.0, "x"),
        ("raw bytes at 64 connections, against PNG there", rate("ours", "raw") / stock, 4.0, "x"),
        (
            "packed bodies of 1,024 images, against ONNX Runtime alone",
            results["packed"]["octets"] / results["packed"]["onnxruntime"],
            0.7,
            "x",
        ),
    ]
    rows = [
        {"figure": name, "value": round(value, 2), "aim": aim, "unit": unit, "reached": value >= aim}
        for name, value, aim, unit in found
    ]
    growth = memory["after_mb"] / memory["before_mb"] - 1
    rows.append(
        {
            "figure": "decoding a PNG",
            "value": results["png_decode_us"],
            "aim": 20,
            "unit": "us",
            "reached": results["png_decode_us"] <= 20,
        }
    )
    rows.append(
        {
            "figure": f"growth of the worker's memory over {memory['requests']:,} requests",
            "value": round(100 * growth, 1),
            "aim": 5,
            "unit": "%",
            "reached": growth <= 0.05,
        }
    )
    return rows


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
