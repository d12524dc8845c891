"""`fashion-mnist serve` whose output nobody reads: into a full disk, a closed descriptor, a pipe without a reader."""

import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from serving import processes
from serving.config import free_ports
from tests.support.command import COMMAND, wait_until

IMAGE = bytes(784)


class Quiet:
    """A server whose words nobody reads."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, admin_port: int) -> None:
        self.process = process
        self.port = port
        self._url = f"http://127.0.0.1:{port}"
        self._metrics = f"http://127.0.0.1:{admin_port}/metrics"

    def is_ready(self) -> bool:
        """Whether its supervisor knows that it answers: it was the first to send an image."""
        try:
            text = httpx.get(self._metrics, timeout=5).text
        except httpx.TransportError:
            return False
        return 'serving_requests_total{code="ok"} 1.0' in text

    def answers(self) -> bool:
        """Whether it predicts."""
        try:
            return httpx.post(f"{self._url}/predictions/fashion_mnist", content=IMAGE, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def gateway(self) -> int:
        """The process id of its gateway."""
        (gateway,) = (
            each.pid for each in processes.tree(self.process.pid) if "gateway.process.worker" in each.cmdline()
        )
        return gateway


@contextmanager
def quiet(redirection: str = "", *arguments: str, stdout: int | None = None, **environment: str) -> Iterator[Quiet]:
    port, admin_port = free_ports(2)
    command = [COMMAND, "serve", "--engine", "embedded", "--device", "cpu", "--port", str(port), *arguments]
    environment = {"FASHION_MNIST_ADMIN_PORT": str(admin_port), "FASHION_MNIST_GRPC_PORT": "0", **environment}
    process = subprocess.Popen(
        ["sh", "-c", f"exec {shlex.join(command)} {redirection}"],
        env={**os.environ, **environment},
        stdout=stdout,
        stderr=stdout,
    )
    try:
        server = Quiet(process, port, admin_port)
        wait_until(lambda: process.poll() is not None or server.is_ready(), "an answer")
        assert process.poll() is None
        yield server
    finally:
        processes.stop(process, grace_s=0)


def survives(server: Quiet) -> None:
    """It restarts what dies, and drains when it is told to end."""
    os.kill(server.gateway(), signal.SIGKILL)
    wait_until(server.answers, "an answer of the next gateway")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n")
        server.process.send_signal(signal.SIGTERM)
        connection.sendall(IMAGE)
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert server.process.wait(15) == 0
