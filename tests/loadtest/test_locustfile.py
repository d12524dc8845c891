"""Load tests: they pass against the real server, and fail on wrong labels, however fast those come."""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
import trustme

from loadtest import scenario
from serving import config, processes
from tests.support.command import COMMAND, ServeCommand, serve_command, wait_until

ROOT = Path(__file__).parents[2]


def loadtest(
    *arguments: str | Path, timeout_s: float = 120, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    command = [COMMAND, "loadtest", *arguments]
    variables = {**os.environ, **(environment or {})}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False, env=variables
    )


def host(server: ServeCommand) -> list[str]:
    address = urlsplit(server.url)
    return ["--host", f"http://{address.netloc}", "--grpc", f"{address.hostname}:{server.state().grpc_port}"]


def test_every_kind_against_the_real_server(in_front: ServeCommand, tmp_path: Path) -> None:
    done = loadtest(*host(in_front), "--scenario", "smoke", "--results", tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["passed"]
    assert result["stages"][0]["figures"]["answered"] > 20
    kinds = {kind.name for kind, _ in scenario.read("smoke").mix}
    page, locusts = ((tmp_path / name).read_text() for name in ("report.html", "locust.html"))
    assert all(f"<td>{kind}</td>" in page for kind in kinds)
    assert "grpc-bytes" in locusts
    assert ET.parse(tmp_path / "junit.xml").getroot()[0].get("failures") == "0"


def test_plain_locust_works_too(embedded: ServeCommand, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]
    command += [*host(embedded), "--seconds", "3", "--most-clients", "4", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "steady: passed" in done.stdout


def test_saturation_is_found(embedded: ServeCommand, tmp_path: Path) -> None:
    steps = tmp_path / "steps.yaml"
    steps.write_text(
        "mix: {raw: 1}\nuntil_saturation: true\nstages:\n"
        "  - {clients: 1, hold_s: 2, thresholds: {p99_ms: 5000}}\n"
        "  - {clients: 2, hold_s: 2, thresholds: {p99_ms: 0.001}}\n"
        "  - {clients: 3, hold_s: 200, thresholds: {p99_ms: 5000}}\n"
    )
    done = loadtest(*host(embedded), "--scenario", steps, "--results", tmp_path, timeout_s=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the thresholds held up to 1 clients" in done.stdout
    assert len(json.loads((tmp_path / "result.json").read_text())["stages"]) == 2


class Constant(BaseHTTPRequestHandler):
    """A server that takes everything for a bag."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps({"predictions": [{"label": "Bag"}]}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Dead(Constant):
    """A server that listens, and answers nothing rightly."""

    status = 503


@contextmanager
def serving(handler: type[Constant]) -> Iterator[str]:
    """The URL of a server while it runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def constant() -> Iterator[str]:
    with serving(Constant) as url:
        yield url


def test_a_wrong_label_is_a_failure(constant: str, tmp_path: Path) -> None:
    done = loadtest("--host", constant, "--seconds", "2", "--clients", "4", "--results", tmp_path)
    assert done.returncode == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert any("wrong label, 'Bag' for" in message for message in result["wrong_labels"])
    assert result["stages"][0]["figures"]["wrong_labels"] > 0
    assert "wrong label" in (tmp_path / "report.html").read_text()


def test_a_run_without_one_answer_ends_with_a_verdict(tmp_path: Path) -> None:
    with serving(Dead) as url:
        done = loadtest("--host", url, "--seconds", "2", "--clients", "4", "--results", tmp_path)
    assert done.returncode == 1
    assert "steady: FAILED" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not json.loads((tmp_path / "result.json").read_text())["passed"]
    assert ET.parse(tmp_path / "junit.xml").getroot()[0].get("failures") != "0"
    assert "png: status 503" in (tmp_path / "report.html").read_text()


def test_a_server_that_is_stopped_is_said_and_nothing_is_started(tmp_path: Path) -> None:
    done = loadtest("--host", "http://127.0.0.1:9", "--results", tmp_path / "results")
    assert done.returncode == 1
    assert re.fullmatch(r"error: no answer from http://127\.0\.0\.1:9 .*--host\n", done.stderr)
    assert not done.stdout
    assert not (tmp_path / "results").exists()


def test_grpc_is_asked_for_too(constant: str, tmp_path: Path) -> None:
    mix = tmp_path / "mix.yaml"
    mix.write_text("mix: {png: 1, grpc: 1}\nstages: [{clients: 2, hold_s: 2}]\n")
    done = loadtest("--host", constant, "--grpc", "127.0.0.1:9", "--scenario", mix, "--results", tmp_path / "results")
    assert done.returncode == 1
    assert re.fullmatch(r"error: no answer from 127\.0\.0\.1:9 over gRPC .*--grpc\n", done.stderr)


def test_plain_locust_ends_where_no_server_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]
    command += ["--host", "http://127.0.0.1:9", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert not result["passed"]
    assert "no answer from http://127.0.0.1:9" in result["error"]
    assert result["error"].partition("(")[0] in (tmp_path / "report.html").read_text()


def test_the_folder_and_the_environment_change_nothing(constant: str, tmp_path: Path) -> None:
    folder, home = tmp_path / "folder", tmp_path / "home"
    for module in ("locust", "secrets", "requests", "loadtest", "grpc", "sitecustomize"):
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").write_text("raise SystemExit('a module of this folder was imported')\n")
    (folder / "pyproject.toml").write_text('[tool.locust]\ncsv = "taken"\nmaster = true\n')
    (folder / "locust.conf").write_text("master = true\ncsv = taken\n")
    (folder / "matplotlibrc").write_text("backend: nonsense\n")
    (folder / "mine.yaml").write_text(
        "mix: {png: 1}\nthresholds: {wrong_labels: 0}\nstages: [{clients: 2, hold_s: 2}]\n"
    )
    home.mkdir()
    (home / ".locust.conf").write_text("master = true\ncsv = taken\n")
    variables = {"LOCUST_MODE_MASTER": "true", "LOCUST_CSV": "taken", "LOCUST_LOGFILE": "taken.log"}
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    before = set(tmp_path.rglob("*"))
    done = loadtest(
        *("--host", constant, "--scenario", "mine.yaml", "--results", "mine"),
        folder=folder,
        timeout_s=60,
        environment={"HOME": str(home), "XDG_CACHE_HOME": cache, **variables},
    )
    assert done.returncode == 1, done.stderr
    assert "imported" not in done.stderr
    assert "wrong label, 'Bag' for" in (folder / "mine" / "result.json").read_text()
    new = {path for path in tmp_path.rglob("*") if path not in before and folder / "mine" not in path.parents}
    assert new <= {folder / "mine"}


def test_settings_with_tls_are_enough_to_find_the_server(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    files = {"FASHION_MNIST_TLS_CERTIFICATE": "certificate.pem", "FASHION_MNIST_TLS_KEY": "key.pem"}
    (tmp_path / "certificate.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    mix = tmp_path / "mix.yaml"
    mix.write_text("mix: {grpc: 1, png: 1}\nthresholds: {failures_percent: 0}\nstages: [{clients: 2, hold_s: 2}]\n")
    absolute = {name: str(tmp_path / file) for name, file in files.items()}
    with serve_command(tmp_path, "--engine", "embedded", **absolute) as server:
        wait_until(lambda: server.times_ready() == 1 or server.process.poll() is not None, "ready")
        ports = {
            "FASHION_MNIST_PORT": str(urlsplit(server.url).port),
            "FASHION_MNIST_GRPC_PORT": str(server.state().grpc_port),
        }
        done = loadtest("--scenario", "mix.yaml", "--results", "results", folder=tmp_path, environment=files | ports)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "results" / "result.json").read_text())["stages"][0]["figures"]
    assert found["answered"] > 20


def test_grpc_is_sent_past_any_proxy(embedded: ServeCommand, tmp_path: Path) -> None:
    mix = tmp_path / "mix.yaml"
    mix.write_text("mix: {grpc: 1, png: 1}\nthresholds: {failures_percent: 0}\nstages: [{clients: 2, hold_s: 2}]\n")
    proxies = dict.fromkeys(("grpc_proxy", "http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    nowhere = dict.fromkeys(("no_grpc_proxy", "no_proxy", "NO_PROXY"), "")
    done = loadtest(*host(embedded), "--scenario", mix, "--results", tmp_path, environment=proxies | nowhere)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("arguments", [(), ("--join", "127.0.0.1")], ids=["alone", "worker"])
@pytest.mark.parametrize("missing", ["DATA", "MODEL_STORE"])
def test_what_is_missing_is_said_before_anything_starts(
    arguments: tuple[str, ...], missing: str, tmp_path: Path
) -> None:
    empty = str(tmp_path / "empty")
    results = tmp_path / "results"
    done = loadtest(*arguments, "--results", results, timeout_s=30, environment={f"FASHION_MNIST_{missing}": empty})
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert empty in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not results.exists()


def test_a_worker_that_cannot_send_ends_the_run(constant: str, tmp_path: Path) -> None:
    (free,) = config.free_ports(1)
    port = str(free)
    command: list[str | Path] = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]
    command += ["--worker", "--master-port", port]
    with ExitStack() as stack, (tmp_path / "said").open("wb") as said:
        worker = processes.start(command, {**os.environ, "FASHION_MNIST_DATA": str(tmp_path / "empty")}, ROOT, said)
        stack.callback(processes.stop, worker, 5)
        done = loadtest("--host", constant, "--workers", "1", "--port", port, "--results", tmp_path, timeout_s=60)
        assert worker.wait(timeout=30) == 1
    assert done.returncode == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert not result["passed"]
    assert re.search(r"a worker on .*empty.* does not exist", result["error"])
    assert "Traceback" not in done.stdout + done.stderr + (tmp_path / "said").read_text()


def test_a_scenario_that_is_not_there_is_said() -> None:
    done = loadtest("--scenario", "nothing")
    assert done.returncode == 2
    assert "no scenario nothing" in done.stderr
    assert "Traceback" not in done.stderr


def namespaces() -> bool:
    """Whether this machine lets us make network namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"fm-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, timeout=10, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "delete", name], timeout=10, check=True)
    return made


@pytest.mark.skipif(not namespaces(), reason="needs root, and `ip` from iproute2, to make network namespaces")
def test_a_master_and_two_workers_on_machines_of_their_own(tmp_path: Path) -> None:
    """Each in a network namespace of its own."""
    mix = tmp_path / "mix.yaml"
    mix.write_text(
        "mix: {png: 1, grpc: 1}\nthresholds: {failures_percent: 0, wrong_labels: 0}\n"
        "stages: [{clients: 6, hold_s: 6}]\n"
    )
    with ExitStack() as stack:
        net = stack.enter_context(_Network(f"fm{os.getpid() % 100000}"))
        server = stack.enter_context(
            serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_HOST=net.gateway, FASHION_MNIST_AUTH="off")
        )
        wait_until(lambda: server.times_ready() == 1 or server.process.poll() is not None, "ready")
        master: list[str | Path] = [
            COMMAND,
            "loadtest",
            *host(server),
            "--workers",
            "2",
            "--results",
            tmp_path,
            "--scenario",
            mix,
        ]
        with (tmp_path / "said").open("wb") as said:
            running = processes.start([*net.inside(0), *master], os.environ, ROOT, said)
            stack.callback(processes.stop, running, 5)
            for place in (1, 2):
                worker: list[str | Path] = [*net.inside(place), COMMAND, "loadtest", "--join", net.master(place)]
                stack.callback(processes.stop, processes.start(worker, os.environ, ROOT, said), 5)
            status = running.wait(timeout=120)
        assert status == 0, (tmp_path / "said").read_text()[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["passed"]
    assert result["stages"][0]["figures"]["answered"] > 20


class _Network:
    """Three namespaces, each with a cable to us and the first with one to each of the others: nothing is forwarded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._prefix = f"10.{int(name[2:]) % 200 + 30}"
        self.gateway = f"{self._prefix}.0.1"

    def master(self, place: int) -> str:
        """The first namespace's address, as another one sees it."""
        return f"{self._prefix}.{10 + place}.1"

    def inside(self, place: int) -> list[str | Path]:
        """What runs a command in a namespace."""
        return ["ip", "netns", "exec", self._space(place)]

    def __enter__(self) -> "_Network":
        try:
            for place in range(3):
                self._ip("netns", "add", self._space(place))
                self._ip("-n", self._space(place), "link", "set", "lo", "up")
                self._cable(None, place, place)
                # Our first address is ours whichever cable it is asked through.
                self._ip("-n", self._space(place), "route", "add", "default", "via", f"{self._prefix}.{place}.1")
            for place in (1, 2):
                self._cable(0, place, 10 + place)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for place in range(3):
            self._ip("netns", "delete", self._space(place), check=False)  # and with it the ends of its cables

    def _space(self, place: int) -> str:
        return f"{self._name}-{place}"

    def _cable(self, near: int | None, far: int, number: int) -> None:
        """A cable between two namespaces, of which None is ours; its ends have addresses .1 and .2."""
        one, other, there = f"{self._name}n{number}", f"{self._name}f{number}", self._space(far)
        here = [] if near is None else ["-n", self._space(near)]
        self._ip(*here, "link", "add", one, "type", "veth", "peer", "name", other, "netns", there)
        for space, end, host in ((here, one, 1), (["-n", there], other, 2)):
            self._ip(*space, "address", "add", f"{self._prefix}.{number}.{host}/24", "dev", end)
            self._ip(*space, "link", "set", end, "up")

    @staticmethod
    def _ip(*arguments: str, check: bool = True) -> None:
        subprocess.run(["ip", *arguments], capture_output=True, timeout=20, check=check)
