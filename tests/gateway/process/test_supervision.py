"""The server goes on whatever becomes of its terminal, its log, its temporary files and the clock."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from fashion_mnist.errors import ServingError
from serving import state
from serving.config import free_ports
from tests.support.command import COMMAND, ServeCommand, serve_command, wait_until
from tests.support.quiet import IMAGE, quiet, survives


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Not in pytest's folder, whose path leaves too little for that of a Unix socket."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def test_output_on_a_full_disk_stops_nothing() -> None:
    with quiet(">/dev/full 2>&1") as server:
        survives(server)


def test_output_into_a_pipe_that_nobody_reads_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with quiet(stdout=writing) as server:
        os.close(writing)
        survives(server)


def test_closed_standard_files_stop_nothing() -> None:
    with quiet("<&- >&- 2>&-") as server:
        survives(server)


def test_a_closed_terminal_ends_the_server_as_a_term_does() -> None:
    with quiet() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: x\r\nContent-Length: 784\r\n\r\n")
        server.process.send_signal(signal.SIGHUP)
        connection.sendall(IMAGE)
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert server.process.wait(15) == 0


def test_a_server_under_nohup_outlives_its_terminal() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; processes inherit it
    try:
        with quiet() as server:
            server.process.send_signal(signal.SIGHUP)
            survives(server)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_server_whose_temporary_files_are_removed_goes_on(tmp_path: Path) -> None:
    with (
        temporary_folder("fm") as temporary,
        serve_command(tmp_path, "--engine", "embedded", TMPDIR=str(temporary)) as command,
    ):
        wait_until(lambda: command.times_ready() == 1, "ready")
        port = httpx.URL(command.url).port
        folder = next(temporary.glob("fashion-mnist-*")) / f"127.0.0.1-{port}"
        plain = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("metrics")]
        assert len(plain) > 3
        for path in plain:
            path.unlink()
        wait_until((folder / "state.json").exists, "what is told of the server")
        command.gateway().kill()
        wait_until(lambda: command.times_ready() == 2, "ready again")
        environment = {**os.environ, "TMPDIR": str(temporary)}
        done = subprocess.run([COMMAND, "status", "--port", str(port)], env=environment, timeout=30, check=False)
        assert done.returncode == 0


@pytest.mark.parametrize("name", ["é", "\\", "a b", "Ω$'\"<&%d"])
def test_torchserve_starts_in_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    with temporary_folder(name) as folder, serve_command(tmp_path, TMPDIR=str(folder)) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        assert httpx.post(command.url, content=IMAGE, timeout=10).status_code == 200


def test_two_addresses_may_have_a_server_on_one_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)

    def status(host: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "FASHION_MNIST_HOST": host}
        command = [COMMAND, "status", "--json", "--port", str(port)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    def server(folder: Path, host: str) -> AbstractContextManager[ServeCommand]:
        folder.mkdir()
        return serve_command(folder, "--engine", "embedded", "--host", host, "--port", str(port))

    with server(tmp_path / "one", "127.0.0.1") as one, server(tmp_path / "two", "127.0.0.2") as two:
        for command in (one, two):
            wait_until(lambda command=command: command.times_ready() == 1, "ready")  # type: ignore[misc]
        for host in ("127.0.0.1", "127.0.0.2"):
            found = json.loads(status(host).stdout)
            assert found["ready"]
            assert host in found["url"]
        two.end()
        assert json.loads(status("127.0.0.1").stdout)["ready"]


class TestState:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))

    @staticmethod
    def told(host: str = "127.0.0.1") -> state.State:
        return state.State(os.getpid(), host, 8080, 8086, False, [], 0)

    def test_a_server_is_found_while_it_holds_its_folder(self) -> None:
        told = self.told()
        with state.owned(state.folder(told.host, told.port)):
            assert state.read(8080) is None
            state.write(told)
            assert state.read(8080) == told
        assert state.read(8080) is None

    def test_what_a_killed_server_left_behind_is_none(self) -> None:
        state.folder("127.0.0.1", 8080).mkdir()
        state.write(self.told())
        assert state.read(8080) is None
        with state.owned(state.folder("127.0.0.1", 8080)):
            assert state.read(8080) is None

    def test_a_folder_in_use_is_refused_and_stays(self) -> None:
        told = self.told()
        with state.owned(state.folder(told.host, told.port)):
            state.write(told)
            with pytest.raises(ServingError, match="another server"), state.owned(state.folder(told.host, told.port)):
                pass
            assert state.read(8080) == told
