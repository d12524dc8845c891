"""A machine that fails: full disks, few descriptors, little memory, a clock that jumps, descriptors that are closed."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.hostile.hunt import Hunt, Scenario, Skipped
from tests.hostile.neighbour import neighbour
from tests.support.command import COMMAND, ServeCommand, wait_until
from tests.support.http import connected, request
from tests.support.quiet import quiet, survives

DISK_BYTES: Final = 24 * 2**20
CGROUPS: Final = Path("/sys/fs/cgroup/memory")
"""Of version 1; with version 2 a memory limit is set by hand."""


@contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tempfile.mkdtemp(prefix="disk-")
    mount, umount = shutil.which("mount"), shutil.which("umount")
    try:
        if not mount or not umount or os.geteuid() != 0:
            raise Skipped("only root may mount a small file system")
        command = [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder]
        if subprocess.run(command, capture_output=True, timeout=10, check=False).returncode:
            raise Skipped("a file system cannot be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run([umount, "-l", folder], timeout=10, check=True)
    finally:
        os.rmdir(folder)


def full_disk(hunt: Hunt) -> None:
    """The disk of its temporary files fills up, and a gateway is killed meanwhile."""
    with (
        _small_disk() as folder,
        hunt.serving("--engine", "embedded", TMPDIR=str(folder)) as command,
        hunt.beside(command),
    ):
        with (folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**20))
        time.sleep(hunt.seconds)
        hunt.whole_again(command.url)
        (folder / "filling").unlink()


def killed_on_a_full_disk(hunt: Hunt) -> None:
    """A gateway is killed while the disk is full: the next one starts when there is room."""
    with _small_disk() as folder, hunt.serving("--engine", "embedded", TMPDIR=str(folder)) as command:
        with (folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**20))
        command.gateway().kill()
        time.sleep(min(hunt.seconds, 3.0))
        assert command.process.poll() is None, f"the server ended: {command.said()[-500:]}"
        (folder / "filling").unlink()
        hunt.whole_again(command.url)


def few_descriptors(hunt: Hunt) -> None:
    """More clients than a gateway has descriptors for."""
    with hunt.serving("--engine", "embedded") as command:
        gateway = command.gateway()
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (gateway.num_fds() + 20,) * 2)
        address = urlsplit(command.url)
        with ExitStack() as stack:
            for _ in range(200):
                held = socket.socket()
                stack.callback(held.close)
                held.settimeout(0.5)
                with contextlib.suppress(OSError):
                    held.connect((address.hostname, address.port))
                    held.sendall(request(bytes(784)))
            time.sleep(hunt.seconds)
            spent = gateway.cpu_times()
            time.sleep(1)
            busy = sum(gateway.cpu_times()[:2]) - sum(spent[:2])
            hunt.figures["busy_s_of_1"] = round(busy, 2)
            assert busy < 0.5, "it spins while no descriptor is free"
        hunt.whole_again(command.url)
        assert gateway.is_running(), "the gateway died"


def little_memory(hunt: Hunt) -> None:
    """A cgroup whose limit many large bodies reach: the kernel kills a gateway, and the server goes on."""
    if not (CGROUPS / "memory.limit_in_bytes").exists() or not os.access(CGROUPS, os.W_OK):
        raise Skipped("no memory cgroup can be made here")
    group = CGROUPS / f"hunt-{os.getpid()}"
    group.mkdir()
    try:
        with hunt.serving("--engine", "embedded") as command:
            (group / "memory.limit_in_bytes").write_text(str(400 * 2**20))
            for process in command.family():
                (group / "cgroup.procs").write_text(str(process.pid))
            whole = request(b"\x01" * 12_800_000)
            with ExitStack() as stack:
                connections = [stack.enter_context(connected(command.url)) for _ in range(60)]
                threads = [threading.Thread(target=_send, args=(each, whole), daemon=True) for each in connections]
                for thread in threads:
                    thread.start()
                time.sleep(max(3.0, hunt.seconds))
            assert command.process.poll() is None, f"the server ended: {command.said()[-500:]}"
            hunt.whole_again(command.url)
            hunt.figures["peak_MiB"] = int((group / "memory.max_usage_in_bytes").read_text()) >> 20
            hunt.figures["times_ready"] = command.times_ready()
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group's end", 10)
        group.rmdir()


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.settimeout(10)
        connection.sendall(data)


def clock_steps(hunt: Hunt) -> None:
    """The wall clock goes forth and back by minutes, days and years."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped("needs a C compiler")
    folder = hunt.new_folder()
    library, shift = folder / "clock.so", folder / "shift"
    source = Path(__file__).parent / "clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], timeout=60, check=True)
    shift.write_text("0\n")
    environment = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(shift)}
    with hunt.serving("--engine", "embedded", **environment) as command:
        with neighbour(command.url, hunt.images) as found:
            for seconds in (2, -3600, 86_400, 10 * 365 * 86_400, 0):
                next_shift = folder / "next"
                next_shift.write_text(f"{seconds}\n")
                next_shift.replace(shift)
                time.sleep(min(hunt.seconds, 2.0))
                assert _status(command, environment) == 0, f"`status` finds no server after a step to {seconds} s"
        hunt.figures |= found.figures()
        assert set(found.counts) == {"right"}, dict(found.counts)
        assert command.times_ready() == 1, "something was restarted"
        assert command.end() == 0


def _status(command: ServeCommand, environment: dict[str, str]) -> int:
    status = [COMMAND, "status", "--port", str(urlsplit(command.url).port)]
    return subprocess.run(
        status, env={**os.environ, **environment}, capture_output=True, timeout=30, check=False
    ).returncode


def closed_descriptors(hunt: Hunt) -> None:
    """Started without stdin, stdout and stderr; the scenarios of a full log, and of one that nobody reads."""
    del hunt
    for redirection in ("<&- >&- 2>&-", ">/dev/full 2>&1"):
        with quiet(redirection) as server:
            survives(server)


def log_without_a_reader(hunt: Hunt) -> None:
    """Its log is a pipe that is full and that nobody reads, while damaged images come."""
    reading, writing = os.pipe()
    try:
        with quiet(stdout=writing) as server:
            url = f"http://127.0.0.1:{server.port}/predictions/fashion_mnist"
            os.set_blocking(writing, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writing, bytes(4096))
            with neighbour(url, hunt.images) as found:
                deadline = time.monotonic() + hunt.seconds
                while time.monotonic() < deadline:
                    with connected(url) as connection:
                        connection.sendall(request(b"\x89PNG\r\n\x1a\n" + bytes(500), "Connection: close"))
                        connection.recv(100)
            assert set(found.counts) == {"right"}, dict(found.counts)
            hunt.figures |= found.figures()
            survives(server)
    finally:
        os.close(reading)
        os.close(writing)


SCENARIOS: Final = [
    Scenario("full disk", "a well-behaved client notices nothing", full_disk),
    Scenario("gateway killed on a full disk", "whole again within 10 s of there being room", killed_on_a_full_disk),
    Scenario("few descriptors", "whole again within 10 s of there being some; it does not spin", few_descriptors),
    Scenario("little memory", "the server lives, and is whole again within 10 s", little_memory),
    Scenario("clock steps", "all answers right, nothing restarted, `status` finds the server", clock_steps),
    Scenario("closed descriptors, full log", "it restarts what dies, and drains", closed_descriptors),
    Scenario("log that nobody reads", "all answers right; it restarts what dies, and drains", log_without_a_reader),
]
