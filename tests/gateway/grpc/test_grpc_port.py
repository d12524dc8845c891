"""One port for several gateways, and for nobody else."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from fashion_mnist.errors import ServingError
from gateway.http import listening
from serving.config import check_free
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.grpc_frames import INFER, infer


@contextmanager
def channel(command: ServeCommand) -> Iterator[grpc.Channel]:
    """A connection of its own, and not one that another test has opened."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{command.state().grpc_port}", options) as opened:
        yield opened


def answers(command: ServeCommand) -> bool:
    with channel(command) as opened:
        try:
            return bool(opened.unary_unary(INFER)(infer(), timeout=5))
        except grpc.RpcError:
            return False


def gateways(command: ServeCommand) -> list[psutil.Process]:
    return [process for process in command.family() if "gateway.process.worker" in process.cmdline()]


def served_by(command: ServeCommand) -> set[int]:
    """The processes that new connections reach."""
    found = set()
    channels = []
    try:
        for _ in range(24):
            opened = socket.create_connection(("127.0.0.1", command.state().grpc_port), timeout=5)
            channels.append(opened)
        ports = {opened.getsockname()[1] for opened in channels}
        for gateway in gateways(command):
            for connection in gateway.net_connections("tcp"):
                if connection.raddr and connection.raddr.port in ports:
                    found.add(gateway.pid)
    finally:
        for opened in channels:
            opened.close()
    return found


def test_gateways_share_the_port_and_a_restarted_one_gets_connections_again(tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded", "--gateways", "2") as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        wait_until(lambda: len(served_by(command)) == 2, "connections to both", 10)
        dead, other = gateways(command)
        dead.kill()
        wait_until(lambda: command.times_ready() == 2, "ready again")
        wait_until(lambda: len(served_by(command) - {dead.pid, other.pid}) == 1, "connections to the new one", 10)
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: answers(command), range(16)))
        assert command.end() == 0


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with serve_command(first, "--engine", "embedded", "--gateways", "2") as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        port = str(command.state().grpc_port)
        with serve_command(second, "--engine", "embedded", FASHION_MNIST_GRPC_PORT=port) as late:
            assert late.process.wait(30) == 1
            assert port in late.said()
            assert "FASHION_MNIST_GRPC_PORT" in late.said()
        assert answers(command)
        assert command.end() == 0


def test_a_port_is_reserved_before_anybody_listens() -> None:
    with listening.reserve("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listening.reserve("127.0.0.1", port)
        with pytest.raises(ServingError):
            check_free("127.0.0.1", port, "GRPC_PORT")
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass
    with listening.reserve("127.0.0.1", port):
        pass


def computed(command: ServeCommand) -> float:
    """Images that the engine has answered."""
    page = httpx.get(f"http://127.0.0.1:{command.state().admin_port}/metrics", timeout=10).text
    (line,) = [line for line in page.splitlines() if line.startswith("serving_batch_images_sum ")]
    return float(line.split()[1])


def test_calls_that_are_cancelled_or_late_are_not_computed(tmp_path: Path) -> None:
    calls, images = 30, 100
    with serve_command(tmp_path) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        worker = command.worker()
        with channel(command) as opened:
            method = opened.unary_unary(INFER)
            method(infer(), timeout=5)
            worker.send_signal(signal.SIGSTOP)
            try:
                late = [method.future(infer(images), timeout=0.5) for _ in range(calls // 2)]
                cancelled = [method.future(infer(images), timeout=20) for _ in range(calls // 2)]
                assert {call.code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
                for call in cancelled:
                    call.cancel()
            finally:
                worker.send_signal(signal.SIGCONT)
            wait_until(lambda: answers(command), "an answer", 10)
        wait_until(lambda: computed(command) >= 1, "the count", 5)
        # What the engine had taken already is.
        assert computed(command) < calls * images / 2
        assert command.end() == 0
