"""What decoding costs: processor time of each kind of image, and what a stream of photographs costs others."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import load, servers
from benchmarks.machine import machine
from benchmarks.photographs import MEGAPIXELS_12, MEGAPIXELS_48, beside, photograph
from benchmarks.report import markdown_table
from fashion_mnist.data import dataset
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.encoding import encode_image
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit
from fashion_mnist.task import FASHION_MNIST

AIMS_MS: Final = {"JPEG, 12 megapixels, quality 85": 13.0, "JPEG, 48 megapixels, quality 85": 50.0}
BESIDE_P99_MS: Final = 10.0

_OCTET_STREAM: Final = "application/octet-stream"


def run(output: Path, *, quick: bool = False) -> dict[str, Any]:
    """Measure, print, and write decoding.json and decoding.md to `output`; the figures. Raises RunFailed."""
    load.require_wrk()
    settings = Settings.from_environment()
    image = dataset.load(settings.data).test.images[0]
    bodies = {
        "raw pixels": (image.tobytes(), _OCTET_STREAM),
        "PNG, 28 x 28": (encode_image(image), ""),
        "JPEG, 28 x 28": (encode_image(image, "JPEG", quality=90), ""),
        "JPEG, 12 megapixels, quality 85": (photograph(MEGAPIXELS_12, quality=85), ""),
        "JPEG, 12 megapixels, quality 92": (photograph(MEGAPIXELS_12, quality=92), ""),
        "JPEG, 12 megapixels, progressive": (photograph(MEGAPIXELS_12, quality=85, progressive=True), ""),
        "JPEG, 48 megapixels, quality 85": (photograph(MEGAPIXELS_48, quality=85), ""),
    }
    limits = Limits.from_settings(settings)._replace(max_body_bytes=2**26)
    rounds = 3 if quick else 15
    rows = [
        {
            "image": name,
            "bytes": len(body),
            "cpu_ms": _cpu_ms(body, content_type, limits, rounds),
            "aim_ms": AIMS_MS.get(name),
        }
        for name, (body, content_type) in bodies.items()
    ]
    with tempfile.TemporaryDirectory(prefix="fm-") as name:
        folder = Path(name)
        with servers.fashion_mnist(folder / "server", "embedded") as server:
            found = beside(server, image.tobytes(), folder, 2 if quick else 20)
    results = {
        "machine": {"name": machine(), "cores": os.cpu_count()},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "decoding": rows,
        "beside": found | {"aim_p99_ms": BESIDE_P99_MS},
    }
    text = _markdown(results)
    Console().print(text, markup=False, highlight=False)
    atomic.write_text(output / "decoding.json", json.dumps(results, indent=2) + "\n")
    atomic.write_text(output / "decoding.md", text)
    return results


def _cpu_ms(body: bytes, content_type: str, limits: Limits, rounds: int) -> float:
    """Processor time of one image in ms: the least of many rounds, which is when nothing else ran."""
    times = []
    count = 1000 if len(body) < 10_000 else 1
    for _ in range(rounds):
        before = time.process_time()
        for _ in range(count):
            decode(body, content_type, limits, FASHION_MNIST)
        times.append((time.process_time() - before) / count)
    return round(1e3 * min(times), 4)


def _markdown(results: dict[str, Any]) -> str:
    rows = [
        [row["image"], f"{row['bytes']:,}", f"{row['cpu_ms']:.3f}", f"{row['aim_ms']:g}" if row["aim_ms"] else ""]
        for row in results["decoding"]
    ]
    found = results["beside"]
    lines = [
        f"{results['machine']['name']}; {results['date']}, commit {results['commit']}.",
        "",
        *markdown_table(["image", "bytes", "processor time, ms", "aim"], rows),
        "",
        *markdown_table(
            ["lone raw requests, embedded engine", "p50, ms", "p99, ms", "aim"],
            [
                ["by themselves", f"{found['alone_p50_ms']:.2f}", f"{found['alone_p99_ms']:.2f}", ""],
                [
                    f"beside {found['photographs_per_second']:g} photographs of 12 megapixels a second",
                    f"{found['beside_p50_ms']:.2f}",
                    f"{found['beside_p99_ms']:.2f}",
                    f"{found['aim_p99_ms']:g}",
                ],
            ],
        ),
    ]
    return "\n".join(lines) + "\n"
