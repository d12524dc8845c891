"""What a running server tells other processes of the same user about itself: a folder, locked while it runs."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fashion_mnist.errors import ServingError
from fashion_mnist.system import atomic

_FILE: Final = "state.json"


@dataclass(frozen=True)
class State:
    """A running server: its process, and where it answers. `private_sockets` are in its folder, one a gateway."""

    pid: int
    host: str
    port: int
    admin_port: int
    tls: bool
    private_sockets: list[str]
    grpc_port: int
    """0 where gRPC is off."""


def parent() -> Path:
    """Where the folders of this user's servers are. Raises ServingError where somebody else owns it."""
    path = Path(tempfile.gettempdir()).absolute() / f"fashion-mnist-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        owner = path.lstat().st_uid
    except OSError as error:
        raise ServingError(f"{path} cannot be written ({error.strerror}): make room there, or set TMPDIR") from None
    if owner != os.getuid() or path.is_symlink():
        raise ServingError(f"{path} belongs to somebody else: set TMPDIR to a folder of your own")
    return path


def folder(host: str, port: int) -> Path:
    """The folder of the server at this address. Raises ServingError as `parent` does."""
    return parent() / f"{host.replace(':', '.')}-{port}"


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Make a server's folder, empty, and hold its lock: by that others know that the server runs.

    A lock ends with its process and needs no clock; and what ages temporary files spares a folder that is locked.
    Raises ServingError where another server has it, or where it cannot be written.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise ServingError(f"{path} cannot be written ({error.strerror}): set TMPDIR") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ServingError(f"another server of yours has {path}: stop it, or choose another port") from None
    try:
        for left in path.iterdir():  # by one that was killed
            with contextlib.suppress(OSError):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def write(state: State) -> None:
    """Tell of a server."""
    atomic.write_text(folder(state.host, state.port) / _FILE, json.dumps(asdict(state)))


def is_told(path: Path) -> bool:
    """Whether the file with that is still in a server's folder."""
    return (path / _FILE).exists()


def read(port: int, host: str = "") -> State | None:
    """The server on `port`, or None where none of ours runs.

    Where several addresses have one on that port it is that of `host`, else the first.
    """
    found = [state for path in sorted(parent().glob(f"*-{port}")) if (state := _read(path)) is not None]
    return next((state for state in found if state.host == host), found[0] if found else None)


def _read(path: Path) -> State | None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return State(**json.loads((path / _FILE).read_text()))
    finally:
        os.close(lock)
    return None
