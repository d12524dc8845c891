"""TorchServe as shipped: its default configuration and logging, its stock image classifier, its own worker count."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import servers
from benchmarks.servers import Server
from fashion_mnist.classes import GEOMETRY
from fashion_mnist.encoding import encode_image
from fashion_mnist.network import load_weights
from serving import java
from serving.config import free_ports

MEAN, STD = 0.2860, 0.3530
"""Those of stock_handler.py, which TorchServe runs and nobody else can import."""

HANDLER: Final = Path(__file__).parent / "stock_handler.py"


@contextmanager
def stock_torchserve(
    weights: Path, folder: Path, image: NDArray[np.uint8], *, threads: int | None = None
) -> Iterator[Server]:
    """Start it, yield it once it answers an image, uint8 [28, 28], rightly, and end it with all its processes.

    As shipped, each worker starts as many threads as there are cores, and they hinder each other; `threads` limits them
    by OMP_NUM_THREADS, which is all the tuning there is.
    """
    inference, management, metrics, grpc_inference, grpc_management = free_ports(5)
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    _build_archive(weights, folder)
    # Addresses and ports, so that it can run beside others; all else is TorchServe's default.
    (folder / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\n"
        f"metrics_address=http://127.0.0.1:{metrics}\n"
        f"grpc_inference_port={grpc_inference}\ngrpc_management_port={grpc_management}\n"
    )
    command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs", "--disable-token-auth"]
    command += ["--model-store", str(folder), "--models", "fashion_mnist.mar", "--ts-config", "config.properties"]
    # As shipped, whatever the person who measures has set for their own servers.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TS_", "OMP_"))}
    environment = {**inherited, "TMPDIR": str(temporary), "TEMP": str(temporary), "LOG_LOCATION": str(folder / "logs")}
    environment |= {"METRICS_LOCATION": str(folder / "logs"), "JAVA_HOME": str(java.find_java().parent.parent)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    url = f"http://127.0.0.1:{inference}/predictions/fashion_mnist"
    with servers.started(command, environment, folder) as process:
        health_image = encode_image(image)
        servers.wait_until_right(url, process, health_image, expected_labels(weights, image[None])[0])
        yield Server(url, process.pid)


def expected_labels(weights: Path, images: NDArray[np.uint8]) -> list[int]:
    """What the network says of images, [n, 1, h, w], under the rounded mean and deviation of the stock handler."""
    network = load_weights(weights).network.eval()
    with torch.inference_mode():
        scaled = torch.from_numpy(images.copy()).float() / 255
        labels: list[int] = network((scaled - MEAN) / STD).argmax(dim=1).tolist()
        return labels


def _build_archive(weights: Path, folder: Path) -> None:
    network = load_weights(weights).network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, torch.zeros(1, *GEOMETRY)).save(str(folder / "model.pt"))
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", "fashion_mnist"]
    command += ["--version", "1.0", "--serialized-file", "model.pt", "--handler", str(HANDLER), "--export-path", "."]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
