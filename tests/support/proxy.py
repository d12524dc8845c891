"""HAProxy with deploy/haproxy/haproxy.cfg, on free ports, and the gateways behind it."""

import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from serving import processes
from serving.config import free_ports
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.samples import scrape

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "haproxy"
CONFIGURATION = FOLDER / "haproxy.cfg"
NOBODY = "127.0.0.1:9"
"""An address where nobody listens."""
STOPPED = "\nProxy service stopped"
"""What a process of HAProxy logs when another one has taken over."""


def program(name: str) -> str:
    """A program's path; skips the test where it is not there."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return found or pytest.skip(f"needs {name}: apt-get install {name}")


class Gateway:
    """`fashion-mnist serve --engine embedded` at the same ports whenever it is started."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port, self._grpc, self._admin = free_ports(3)
        self._stack = ExitStack()
        self.command: ServeCommand
        self.address, self.grpc = f"127.0.0.1:{self._port}", f"127.0.0.1:{self._grpc}"

    def start(self, model_store: Path, **environment: str) -> None:
        """Start it with this version of the model; see `wait`."""
        environment |= {
            "FASHION_MNIST_MODEL_STORE": str(model_store),
            "FASHION_MNIST_GRPC_PORT": str(self._grpc),
            "FASHION_MNIST_ADMIN_PORT": str(self._admin),
        }
        arguments = ["--engine", "embedded", "--port", str(self._port)]
        self.command = self._stack.enter_context(serve_command(self._folder, *arguments, **environment))

    def wait(self) -> None:
        """Until it is ready."""
        wait_until(lambda: self.command.times_ready() or self.command.process.poll() is not None, "ready")

    def signal(self, number: signal.Signals) -> None:
        """To each of its processes."""
        for process in self.command.family():
            process.send_signal(number)

    def answered(self) -> float:
        """Requests that it has answered rightly, as it counts them."""
        return scrape(self.command).get(("serving_requests_total", (("code", "ok"),)), 0)

    def close(self) -> None:
        """End what is left of it."""
        self._stack.close()


class Proxy:
    """A running HAProxy."""

    def __init__(self, folder: Path, gateways: Mapping[str, Gateway | str], rate: int = 1_000_000) -> None:
        """`gateways` by what their variables begin with, such as GATEWAY_A; a string is host:port, without gRPC."""
        self._folder, self._rate = folder, rate
        ca = trustme.CA()
        ca.cert_pem.write_to_path(folder / "ca.pem")
        ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "certificate.pem")
        self.ca = folder / "ca.pem"
        self._port, self._grpc, self._metrics = free_ports(3)
        self.map = folder / "canary.map"
        self.map.write_text("share 0\n")
        self.environment = {
            **os.environ,
            "PROXY": f"127.0.0.1:{self._port}",
            "PROXY_GRPC": f"127.0.0.1:{self._grpc}",
            "PROXY_METRICS": f"127.0.0.1:{self._metrics}",
            "PROXY_SOCKET": str(folder / "admin.sock"),
            "CERTIFICATE": str(folder / "certificate.pem"),
            "CANARY_SHARE": str(self.map),
            "CLIENT_RATE": str(rate),
        }
        if os.geteuid() != 0:
            self.environment["UNPRIVILEGED"] = "1"
        for name in ("GATEWAY_A", "GATEWAY_B", "GATEWAY_CANARY"):
            gateway = gateways.get(name, NOBODY)
            addresses = (gateway, NOBODY) if isinstance(gateway, str) else (gateway.address, gateway.grpc)
            self.environment[name], self.environment[f"{name}_GRPC"] = addresses
        self.url, self.grpc = f"https://127.0.0.1:{self._port}", f"localhost:{self._grpc}"

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        """From when it answers, until the block ends."""
        with (self._folder / "haproxy.log").open("wb") as log:
            command = [program("haproxy"), "-W", "-f", str(CONFIGURATION)]
            self._process = processes.start(command, self.environment, self._folder, log)
        try:
            wait_until(self._answers, "HAProxy", 20)
            yield self
        finally:
            processes.stop(self._process, 0)

    def said(self) -> str:
        """What it has logged."""
        return (self._folder / "haproxy.log").read_text()

    def tls(self) -> ssl.SSLContext:
        """A client's, which believes its certificate."""
        return ssl.create_default_context(cafile=self.ca)

    def client(self) -> httpx.Client:
        """One that asks it."""
        return httpx.Client(base_url=self.url, verify=self.tls(), timeout=20)

    def is_up(self, server: str, backend: str = "http") -> bool:
        """What its metrics say of a gateway."""
        text = httpx.get(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10).text
        wanted = {"proxy": backend, "server": server, "state": "UP"}
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        (value,) = (
            sample.value for sample in samples if sample.name == "haproxy_server_status" and sample.labels == wanted
        )
        return value == 1

    def wait(self, server: str, *, up: bool) -> None:
        """Until a gateway is in, or out."""
        wait_until(lambda: self.is_up(server) == up, f"{server} {'in' if up else 'out'}", 20)

    def tell(self, command: str) -> None:
        """Say something to its socket, as operators do."""
        address = f"unix-connect:{self.environment['PROXY_SOCKET']}"
        said = [program("socat"), "stdio", address]
        subprocess.run(said, input=f"{command}\n".encode(), stdout=subprocess.PIPE, timeout=20, check=True)

    def share(self, percent: int) -> None:
        """Give the canary a share."""
        command: list[str | Path] = [FOLDER / "canary", str(percent)]
        subprocess.run(command, env=self.environment, timeout=20, check=True)

    def reload(self) -> None:
        """Read the configuration anew, and wait until the former process takes no more connections."""
        before = self.said().count(STOPPED)
        self._process.send_signal(signal.SIGUSR2)
        wait_until(lambda: self.said().count(STOPPED) > before, "the reload", 20)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.said()
        try:
            return httpx.get(f"http://127.0.0.1:{self._metrics}/", timeout=5).status_code == 404
        except httpx.TransportError:
            return False
