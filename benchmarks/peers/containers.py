"""Servers that come as images of containers: Triton and OpenVINO Model Server, which speak the Open Inference Protocol.

Only images that are on the machine are run: they are gigabytes, and whoever wants them fetches them.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.load import RunFailed
from benchmarks.peers.applications import OIP_PATH, wait_until_right
from benchmarks.peers.kinds import Kind
from benchmarks.servers import Server
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from serving import config

_TRITON: Final = "nvcr.io/nvidia/tritonserver:25.10-py3"
_OPENVINO: Final = "docker.io/openvino/model_server:2025.4"
_DOCKER_S: Final = 60

_TRITON_TUNED: Final = """
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { max_queue_delay_microseconds: 0 }
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
"""


@contextmanager
def triton(folder: Path, kind: Kind, *, tuned: bool) -> Iterator[Server]:
    """Triton with its ONNX Runtime, which reads the graph's inputs itself. Raises UsageError where it cannot run."""
    models = _model_repository(folder)
    (models / "fashion_mnist" / "config.pbtxt").write_text(
        'name: "fashion_mnist"\nbackend: "onnxruntime"\nmax_batch_size: 64\n' + (_TRITON_TUNED if tuned else "")
    )
    port = config.free_ports(1)[0]
    arguments = ["tritonserver", "--model-repository=/models", "--allow-grpc=false", "--allow-metrics=false"]
    arguments += ["--http-address=127.0.0.1", f"--http-port={port}"]
    arguments += ["--log-info=false"] if tuned else []
    with _container(_TRITON, models, arguments, port, kind) as server:
        yield server


@contextmanager
def openvino(folder: Path, kind: Kind, *, tuned: bool) -> Iterator[Server]:
    """OpenVINO Model Server, which compiles the graph for this processor. Raises UsageError where it cannot run."""
    models = _model_repository(folder)
    port = config.free_ports(1)[0]
    arguments = ["--model_name", "fashion_mnist", "--model_path", "/models/fashion_mnist"]
    arguments += ["--rest_port", str(port), "--rest_bind_address", config.LOOPBACK]
    if tuned:
        arguments += ["--log_level", "ERROR", "--plugin_config", json.dumps({"PERFORMANCE_HINT": "LATENCY"})]
    with _container(_OPENVINO, models, arguments, port, kind) as server:
        yield server


def _model_repository(folder: Path) -> Path:
    """The released graph as both want to find it: MODEL/VERSION/model.onnx."""
    version = folder / "models" / "fashion_mnist" / "1"
    version.mkdir(parents=True)
    shutil.copy(model_store_path(Settings.from_environment()) / "model.onnx", version)
    return folder / "models"


@contextmanager
def _container(image: str, models: Path, arguments: Sequence[str], port: int, kind: Kind) -> Iterator[Server]:
    """A container on the machine's own network, so that no proxy of Docker's is measured with it."""
    if shutil.which("docker") is None or _docker("image", "inspect", image).returncode:
        raise UsageError(f"not run here: {image} is not on this machine")
    name = f"fashion-mnist-{uuid.uuid4().hex[:12]}"
    options = ["--rm", "--detach", "--network", "host", "--name", name, "--volume", f"{models}:/models:ro"]
    started = _docker("run", *options, image, *arguments)
    if started.returncode:
        raise RunFailed(f"docker: {started.stderr.strip()[-300:]}")
    try:
        url = f"http://{config.LOOPBACK}:{port}{OIP_PATH}"
        wait_until_right(url, kind, lambda: not _docker("inspect", name).returncode)
        yield Server(url, int(_docker("inspect", "--format", "{{.State.Pid}}", name).stdout))
    finally:
        _docker("rm", "--force", name)


def _docker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=_DOCKER_S, check=False, env=os.environ
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"docker {arguments[0]} did not end within {_DOCKER_S} s") from None
