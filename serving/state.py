"""What a running server tells other processes of the same user about itself: a folder per port, with one file."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from fashion_mnist import atomic
from fashion_mnist.errors import ServingError

_FILE: Final = "state.json"


@dataclass(frozen=True)
class State:
    """A running server: its process, and where it answers. `doors` are sockets in its folder, one for each gateway."""

    pid: int
    started: float
    host: str
    port: int
    admin_port: int
    tls: bool
    doors: list[str]
    grpc_port: int
    """0 where gRPC is off."""


def folder(port: int) -> Path:
    """The folder of the server on `port`. Raises ServingError where somebody else owns its parent."""
    parent = Path(tempfile.gettempdir()) / f"fashion-mnist-{os.getuid()}"
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        owner = parent.lstat().st_uid
    except OSError as error:
        raise ServingError(f"{parent} cannot be written ({error.strerror}): make room there, or set TMPDIR") from None
    if owner != os.getuid() or parent.is_symlink():
        raise ServingError(f"{parent} belongs to somebody else: set TMPDIR to a folder of your own")
    return parent / str(port)


def write(state: State) -> None:
    """Tell of a server."""
    atomic.write_text(folder(state.port) / _FILE, json.dumps(asdict(state)))


def read(port: int) -> State | None:
    """The server on `port`, or None where none of ours runs: a file that a killed one left behind does not count."""
    try:
        state = State(**json.loads((folder(port) / _FILE).read_text()))
        process = psutil.Process(state.pid)
    except (OSError, ValueError, TypeError, psutil.NoSuchProcess):
        return None
    # Process ids come round again; a start time does not.
    return state if abs(process.create_time() - state.started) < 1 else None
