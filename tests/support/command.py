"""`fashion-mnist serve` as a person runs it: a process, its words, its end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from serving import processes, state

COMMAND = str(Path(sys.executable).parent / "fashion-mnist")
DEADLINE_S = 60.0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Wait for a condition; the seconds it took. Fails after the deadline."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < deadline_s, f"{what}: not within {deadline_s} s"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class ServeCommand:
    """A running `fashion-mnist serve`."""

    process: "subprocess.Popen[bytes]"
    output: Path

    def said(self) -> str:
        """All that it printed so far."""
        return self.output.read_text()

    @property
    def url(self) -> str:
        """The URL in its ready line."""
        match = re.search(r"ready: (\S+)", self.said())
        assert match, self.said()
        return match[1]

    def family(self) -> list[psutil.Process]:
        """It and all that it started."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def jvms(self) -> list[psutil.Process]:
        """The Java processes: one of each TorchServe."""
        return [process for process in self.family() if _name(process) == "java"]

    def jvm(self) -> psutil.Process:
        """TorchServe's Java process."""
        return self.jvms()[0]

    def worker(self) -> psutil.Process:
        """TorchServe's Python worker."""
        return next(process for process in self.jvm().children() if "python" in process.name())

    def gateways(self) -> list[psutil.Process]:
        """The gateways' processes."""
        return [process for process in self.family() if "gateway.process.worker" in process.cmdline()]

    def gateway(self) -> psutil.Process:
        """The gateway's process, or one of them."""
        return self.gateways()[0]

    def state(self) -> state.State:
        """What it tells other processes."""
        found = state.read(urlsplit(self.url).port or 0)
        assert found is not None
        return found

    def times_ready(self) -> int:
        """How often it has become ready."""
        return self.said().count("ready: ")

    def end(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = 15.0) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(deadline_s)


@contextmanager
def serve_command(
    folder: Path, *arguments: str, program: str = COMMAND, cwd: str = ".", **environment: str
) -> Iterator[ServeCommand]:
    """Start `fashion-mnist serve` on a free port; not yet ready. Whatever is left of it in the end is killed."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [program, "serve", "--port", "0", "--device", "cpu", *arguments],
            cwd=cwd,
            env={**os.environ, "FASHION_MNIST_ADMIN_PORT": "0", "FASHION_MNIST_GRPC_PORT": "0", **environment},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
        )
    command = ServeCommand(process, output)
    try:
        yield command
    finally:
        processes.stop(process, grace_s=0)


def gone(family: list[psutil.Process]) -> bool:
    """Whether none of these processes runs any more."""
    return not any(processes.alive(process) for process in family)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""  # one that was started only to ask it something
