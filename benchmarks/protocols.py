"""The protocols side by side: one image a request, by the embedded engine.

One load generator for all of them, h2load (apt-get install nghttp2-client): 64 connections of HTTP/1.1, or 64 streams
of one connection of HTTP/2. An answer is checked before and after; h2load itself sees only that answers come.
"""

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console

from benchmarks import servers
from benchmarks.load import RunFailed
from benchmarks.report import markdown_table
from fashion_mnist.classes import CLASSES, GEOMETRY
from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import CANARY, model_store_path
from fashion_mnist.settings import Settings
from gateway.protocols import inference_pb2 as pb
from gateway.protocols.oip_grpc import INFER
from serving import readiness

AT_ONCE: Final = 64
OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True)
class Way:
    """A way to send one image."""

    name: str
    url: str
    body: bytes
    headers: Mapping[str, str]
    http2: bool = False
    rates: list[float] = field(default_factory=list)


def run(*, quick: bool = False) -> str:
    """Measure and print a Markdown table; returns it. The first way is what the others are compared with.

    Raises RunFailed on any failed request or wrong label, UsageError where the load generator is missing.
    """
    if shutil.which("h2load") is None:
        raise UsageError("the load generator is missing: apt-get install nghttp2-client")
    repeats, seconds = (1, 1) if quick else (5, 5)
    store = model_store_path(Settings.from_environment())
    image = decode((store / CANARY[0]).read_bytes(), "", Limits.from_settings(Settings()), GEOMETRY).pixels
    with tempfile.TemporaryDirectory(prefix="fm-") as name:
        folder = Path(name)
        with servers.fashion_mnist(folder / "embedded", "embedded") as server:
            ways = _ways(image, f"http://{urlsplit(server.url).netloc}", server.grpc_url())
            for way in ways:
                _check(way, folder)
                _load(way, folder, 2)
            for _ in range(repeats):
                for way in ways:
                    way.rates.append(_load(way, folder, seconds))
            for way in ways:
                _check(way, folder)
    base = statistics.median(ways[0].rates)
    rows = [
        [
            way.name,
            f"{statistics.median(way.rates):,.0f}",
            f"{min(way.rates):,.0f}-{max(way.rates):,.0f}",
            f"{statistics.median(way.rates) / base:.0%}",
        ]
        for way in ways
    ]
    table = "\n".join(markdown_table(["way", "requests/s", "lowest-highest", "of raw"], rows))
    Console(soft_wrap=True, highlight=False).print(table)
    return table


def _ways(image: np.ndarray, address: str, grpc_address: str) -> list[Way]:
    raw, shape = image.tobytes(), [1, 1, 28, 28]
    tensor = {"name": "images", "datatype": "UINT8", "shape": shape}
    outputs = [{"name": "probabilities"}]
    binary = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    binary_outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [binary], "outputs": binary_outputs}).encode()
    as_json = json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}], "outputs": outputs}).encode()
    message = pb.ModelInferRequest(
        model_name="fashion_mnist", inputs=[tensor], outputs=outputs, raw_input_contents=[raw]
    ).SerializeToString()
    instances = json.dumps({"instances": image.tolist()}).encode()
    infer = f"{address}/v2/models/fashion_mnist/infer"
    json_type = {"Content-Type": "application/json"}
    return [
        Way("our own, raw, octets", address + readiness.PATH, raw, {"Content-Type": OCTETS, "Accept": OCTETS}),
        Way("our own, raw, JSON", address + readiness.PATH, raw, {"Content-Type": OCTETS}),
        Way(
            "OIP, gRPC, raw tensors",
            grpc_address + INFER.decode(),
            b"\0" + len(message).to_bytes(4, "big") + message,
            {"Content-Type": "application/grpc", "TE": "trailers"},
            http2=True,
        ),
        Way(
            "OIP, REST, binary tensors",
            infer,
            head + raw,
            {"Content-Type": OCTETS, "Inference-Header-Content-Length": str(len(head))},
        ),
        Way("OIP, REST, JSON", infer, as_json, json_type),
        Way("TF-Serving, KServe v1", f"{address}/v1/models/fashion_mnist:predict", instances, json_type),
    ]


def _load(way: Way, folder: Path, seconds: int) -> float:
    """Requests a second. Raises RunFailed where one fails."""
    options = ["-c", "1", "-m", str(AT_ONCE)] if way.http2 else ["--h1", "-c", str(AT_ONCE)]
    done = _h2load(way, folder, [*options, "-D", str(seconds), "--warm-up-time", "1"], seconds + 30)
    rate = re.search(r"finished in [\d.]+s, ([\d.]+) req/s", done)
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done)
    if rate is None or counts is None or set(counts.groups()) != {"0"}:
        raise RunFailed(f"{way.name}: {done.strip()[-500:]}")
    return float(rate[1])


def _check(way: Way, folder: Path) -> None:
    """Raise RunFailed where the canary does not get its label: its place is in the answer, as a number or a word."""
    command = ["curl", "-s", "--http2-prior-knowledge" if way.http2 else "--http1.1", "--data-binary"]
    command += [f"@{_file(way, folder)}", way.url]
    for name, value in way.headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    content, label = done.stdout, CANARY[1]
    floats = np.frombuffer(content[-4 * len(CLASSES) :], "<f4") if len(content) >= 4 * len(CLASSES) else np.empty(0)
    if not (label.encode() in content or (len(floats) and CLASSES[int(floats.argmax())] == label) or _in_json(content)):
        raise RunFailed(f"{way.name} answers {content[:300]!r} instead of {label!r}")


def _in_json(content: bytes) -> bool:
    try:
        values = json.loads(content)["outputs"][0]["data"]
    except (ValueError, KeyError):
        return False
    return bool(CLASSES[int(np.argmax(values))] == CANARY[1])


def _h2load(way: Way, folder: Path, options: list[str], timeout_s: int) -> str:
    command = ["h2load", "-t", "1", "-d", str(_file(way, folder)), *options]
    for name, value in way.headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run([*command, way.url], capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.stdout + done.stderr


def _file(way: Way, folder: Path) -> Path:
    path = folder / re.sub(r"\W", "_", way.name)
    if not path.exists():
        path.write_bytes(way.body)
    return path
