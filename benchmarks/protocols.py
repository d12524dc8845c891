"""The protocols side by side: one image a request, by the embedded engine. `python -m benchmarks.protocols`.

One load generator for all of them, h2load (apt-get install nghttp2-client): 64 connections of HTTP/1.1, or 64 streams
of one connection of HTTP/2. An answer is checked before and after; h2load itself sees only that answers come.
"""

import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.load import RunFailed
from fashion_mnist.classes import CLASSES
from fashion_mnist.commit import commit
from fashion_mnist.errors import UsageError
from fashion_mnist.images import decode
from fashion_mnist.limits import Limits
from fashion_mnist.model_store import CANARY, model_store_path
from fashion_mnist.settings import Settings
from gateway.protocols import inference_pb2 as pb
from gateway.protocols.oip_grpc import INFER
from serving import processes, readiness, state

AT_ONCE: Final = 64
OCTETS: Final = "application/octet-stream"
READY_S: Final = 60.0


@dataclass(frozen=True)
class Way:
    """A way to send one image."""

    name: str
    url: str
    body: bytes
    headers: Mapping[str, str]
    http2: bool = False
    rates: list[float] = field(default_factory=list)


def main(repeats: int, seconds: int) -> None:
    """Measure and print a table in Markdown; the first way is what the others are compared with."""
    if shutil.which("h2load") is None:
        raise UsageError("the load generator is missing: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="fm-") as name, _served(Path(name)) as (address, grpc_address):
        store = model_store_path(Settings.from_environment())
        image = decode((store / CANARY[0]).read_bytes(), "", Limits.from_settings(Settings())).pixels
        ways = _ways(image, address, grpc_address)
        for way in ways:
            _check(way, Path(name))
            _run(way, Path(name), 2)
        for _ in range(repeats):
            for way in ways:
                way.rates.append(_run(way, Path(name), seconds))
        for way in ways:
            _check(way, Path(name))
    base = statistics.median(ways[0].rates)
    print(
        f"{_cpu()}, {os.cpu_count()} cores, load generator included; {time.strftime('%Y-%m-%d')}, commit {commit()}; "
        f"medians of {repeats} interleaved runs of {seconds} s, {AT_ONCE} requests at a time.\n"
    )
    print("| way | requests/s | lowest-highest | of raw |\n|---|---|---|---|")
    for way in ways:
        rate = statistics.median(way.rates)
        print(f"| {way.name} | {rate:,.0f} | {min(way.rates):,.0f}-{max(way.rates):,.0f} | {rate / base:.0%} |")


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


def _run(way: Way, folder: Path, seconds: int) -> float:
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


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, str]]:
    """The embedded engine's addresses, of HTTP and gRPC. Raises RunFailed where it does not become ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command: list[str | Path] = [Path(sys.executable).parent / "fashion-mnist", "serve", "--engine", "embedded"]
    command += ["--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "FASHION_MNIST_ADMIN_PORT": "0", "FASHION_MNIST_GRPC_PORT": "0"}
    canary = (model_store_path(Settings.from_environment()) / CANARY[0]).read_bytes()
    with (folder / "output").open("wb") as output:
        process = processes.start(command, environment, folder, output)
        try:
            deadline = time.monotonic() + READY_S
            while True:
                try:
                    readiness.ask_canary("127.0.0.1", port, canary)
                    break
                except readiness.NotReady as error:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise RunFailed(f"the server did not become ready: {error}") from None
                    time.sleep(0.1)
            running = state.read(port)
            assert running is not None
            yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{running.grpc_port}"
        finally:
            processes.stop(process, grace_s=10)


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return found[1] if found else platform.processor()


if __name__ == "__main__":
    main(repeats=int(sys.argv[1]) if len(sys.argv) > 1 else 5, seconds=5)
