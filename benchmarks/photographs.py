"""Photographs as phones take them, drawn here, and how fast servers classify them."""

import io
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks import load
from benchmarks.load import Bodies
from benchmarks.servers import Server

MEGAPIXELS_12: Final = (4000, 3000)
MEGAPIXELS_48: Final = (8000, 6000)
JPEG: Final = "image/jpeg"

_OCTET_STREAM: Final = "application/octet-stream"


def photograph(size: tuple[int, int], **options: Any) -> bytes:
    """A JPEG of this width and height, by Pillow's options: of 12 megapixels and quality 85, 1.1 MB.

    Soft forms and a camera's noise, the same with each call.
    """
    generator = np.random.default_rng(0)
    width, height = size
    forms = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    values = np.asarray(forms.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    values += generator.normal(0, 2.4, (height, width, 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


def per_cpu_second(servers: Mapping[str, Server], folder: Path, seconds: int, repeats: int) -> dict[str, float]:
    """Photographs of 12 megapixels for each second of processor time that a server takes: medians, interleaved."""
    bodies = Bodies.write(folder, [photograph(MEGAPIXELS_12, quality=85)], JPEG)
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(repeats):
        for name, server in servers.items():
            before = server.cpu_s()
            loaded = load.run(server.url, bodies, connections=2, seconds=seconds)
            found[name].append(loaded.requests / (server.cpu_s() - before))
    return {name: round(statistics.median(rates), 1) for name, rates in found.items()}


def beside(server: Server, image: bytes, folder: Path, seconds: int) -> dict[str, float]:
    """The latency of lone raw requests, in ms: by themselves, and beside a stream of photographs of 12 megapixels."""
    photographs = Bodies.write(folder / "photographs", [photograph(MEGAPIXELS_12, quality=85)], JPEG)
    raw = Bodies.write(folder / "raw", [image], _OCTET_STREAM)
    alone = load.run(server.url, raw, connections=1, seconds=seconds)
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(load.run, server.url, photographs, connections=1, seconds=seconds + 1)
        loaded = load.run(server.url, raw, connections=1, seconds=seconds)
        stream = streaming.result()
    return {
        "alone_p50_ms": alone.p50_ms,
        "alone_p99_ms": alone.p99_ms,
        "beside_p50_ms": loaded.p50_ms,
        "beside_p99_ms": loaded.p99_ms,
        "photographs_per_second": round(stream.per_second, 1),
    }
