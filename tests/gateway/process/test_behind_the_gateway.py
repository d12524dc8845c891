"""What is behind the gateway answers nobody else on the machine."""

import os
import stat
import subprocess
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from serving.config import RunFolder
from tests.support.command import ServeCommand

TIMEOUT_S = 10.0
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
CALLS = [
    "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping",
    "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
    "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
    "/org.pytorch.serve.grpc.management.ManagementAPIsService/ScaleWorker",
]


@pytest.fixture
def run(in_front: ServeCommand) -> RunFolder:
    """The files of the TorchServe behind it."""
    return RunFolder(Path(in_front.state().private_sockets[0]).parent / "t1")


def tcp_ports(process: psutil.Process) -> list[int]:
    """Where it listens."""
    return [each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]


def test_folder_with_its_sockets_and_keys_is_its_users_alone(in_front: ServeCommand, run: RunFolder) -> None:
    assert run.inference.is_socket()
    assert stat.S_IMODE(run.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.keys.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_reaches_none_of_its_sockets(in_front: ServeCommand, run: RunFolder) -> None:
    private = [run.inference, run.management, run.metrics, *map(Path, in_front.state().private_sockets)]
    for path in private:
        assert path.is_socket()
        command = ["/usr/bin/env", "python3", "-c", CONNECT, str(path)]
        done = subprocess.run(
            command,
            user="nobody",
            group="nogroup",
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert "PermissionError" in done.stderr, f"{path}: {done.stderr}"


def test_its_sockets_ask_for_a_key_too(run: RunFolder) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(verify=False, uds=str(run.inference)), timeout=TIMEOUT_S) as client:
        for path in ("/ping", "/predictions/fashion_mnist"):
            assert client.get(f"http://localhost{path}").status_code >= 400


@pytest.mark.parametrize("call", CALLS)
def test_its_grpc_ports_answer_no_call_without_a_key(in_front: ServeCommand, call: str) -> None:
    ports = tcp_ports(in_front.jvm())
    assert len(ports) == 2
    statuses = set()
    for port in ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            error = channel.unary_unary(call).future(b"", timeout=TIMEOUT_S).exception()
        statuses.add(error.code())
    # Each port has one of the services.
    assert statuses == {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
