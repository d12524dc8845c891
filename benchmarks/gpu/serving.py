"""The service on the GPU, as people start it: TorchServe with its worker there, and the embedded engine."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import servers
from benchmarks.client import classify_packed, classify_singly
from benchmarks.gpu import host
from benchmarks.gpu.load import closed_loop
from benchmarks.gpu.steps import Found, Run
from fashion_mnist.classes import CLASSES
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.engines import open_engine
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST
from loadtest.kinds import find_kind
from loadtest.requests import Request, prepare

Chosen = Mapping[str, int | str]
"""Settings."""

Traffics = Mapping[str, tuple[Sequence[Request], int]]
"""Requests and connections, by what a person would name them."""

LARGE: Final[Chosen] = {"max_gpu_batch": 4096, "cuda_graphs": "on"}
PACKED: Final = 4096
SINGLES: Final = 500
PHOTOGRAPHS: Final = 8
PHOTOGRAPH_SCALE: Final = 48
"""How many pixels of a photograph's side one of an image becomes: 1,344 x 1,344."""


def embedded(run: Run) -> Found:
    """The embedded engine's labels, image by image and packed."""
    return _labels(run, "embedded")


def torchserve(run: Run) -> Found:
    """Those of TorchServe behind the gateway."""
    return _labels(run, "torchserve")


def embedded_figures(run: Run) -> Found:
    """The embedded engine's figures: as it is, with CUDA graphs and a larger batch, and on the CPU."""
    return _figures(run, "embedded")


def torchserve_figures(run: Run) -> Found:
    """Those of TorchServe behind the gateway."""
    return _figures(run, "torchserve")


def _labels(run: Run, engine: str) -> Found:
    test = host.images(run).images
    expected = open_engine(host.model_store(), "onnx", "cpu").predict(test).argmax(axis=1)
    with _serving(engine, run.device, {}) as url:
        packed = classify_packed(url, test)
        singly = classify_singly(url, [image.tobytes() for image in test[:SINGLES]], "application/octet-stream")
    assert np.array_equal(packed, expected), "packed: labels differ from the CPU's"
    assert np.array_equal(singly, expected[: len(singly)]), "one by one: labels differ from the CPU's"
    return {"labels": f"{len(packed):,} packed and {len(singly)} one by one as on the CPU"}


def _figures(run: Run, engine: str) -> Found:
    packed = run.size(PACKED, 64)
    traffics = {
        "lone": (prepare([find_kind("raw")], 64), 1),
        "64 connections": (prepare([find_kind("raw")], 64), 64),
        "packed": (prepare([find_kind(f"binary x {packed}")], 4), 4),
        "photographs": (photographs(run), 8),
    }
    variants: list[tuple[str, Chosen]] = [(run.device, {}), (run.device, LARGE), ("cpu", {})]
    rows = [
        row
        for device, chosen in run.size(variants, variants[1:2])
        for row in _rows(run, engine, device, chosen, traffics)
    ]
    there = [row for row in rows if row["device"] == run.device]
    return {
        "images a packed body": packed,
        "packed images/s": max(row["images/s"] for row in there if row["traffic"] == "packed"),
        "lone p50 ms": min(row["p50 ms"] for row in there if row["traffic"] == "lone"),
        "figures": rows,
    }


def _rows(run: Run, engine: str, device: str, chosen: Chosen, traffics: Traffics) -> list[dict[str, Any]]:
    """What one server does under each traffic."""
    seconds = run.size(1.0, 0.2)
    rows = []
    with _serving(engine, device, chosen) as url:
        for what, (requests, connections) in traffics.items():
            closed_loop(url, requests, connections=connections, seconds=seconds / 5)
            load = closed_loop(url, requests, connections=connections, seconds=seconds)
            rows.append(
                {
                    "device": device,
                    "settings": ", ".join(f"{name}={value}" for name, value in chosen.items()) or "as it is",
                    "traffic": what,
                    "connections": connections,
                    "images/s": round(load.images_per_s),
                    "p50 ms": load.p50_ms,
                    "p99 ms": load.p99_ms,
                }
            )
    return rows


@contextlib.contextmanager
def _serving(engine: str, device: str, chosen: Chosen) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="fm-") as name,
        servers.fashion_mnist(Path(name) / "server", engine, device, **chosen) as server,
    ):
        yield server.url


def photographs(run: Run) -> list[Request]:
    """JPEGs in colour, of telephones' size, of test images, with the labels that the CPU gives to what is in them."""
    kind, scale = find_kind("jpeg"), run.size(PHOTOGRAPH_SCALE, 8)
    engine = open_engine(host.model_store(), "onnx", "cpu")
    limits = Limits.from_settings(Settings())
    noise = np.random.default_rng(seed=0)
    found = []
    for image in host.images(run).images[:PHOTOGRAPHS]:
        large = np.kron(image[0], np.ones((scale, scale), np.uint8))[None].repeat(3, axis=0)
        grain = noise.integers(0, 16, large.shape, dtype=np.uint8)
        sent = kind.write(np.minimum(large, 239)[None] + grain)
        labels = engine.predict(decode(sent.body, "image/jpeg", limits, FASHION_MNIST).pixels).argmax(axis=1)
        found.append(Request(kind, sent, [CLASSES[index] for index in labels]))
    return found
