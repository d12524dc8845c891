"""Files that are either the old ones or the new ones, never half of each; and files that are read without waiting."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without error, it takes `path`'s place.

    The bytes reach the disk before the rename does, so that after a power cut the name holds a whole file.
    On an error the temporary file is removed and `path` stays as it was. Parent folders are created. Where `path` is a
    link, the file that it points to is replaced.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _as_if_written_in_place(temporary, path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path`'s content by `content`, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace `path`'s content by `content` as UTF-8, atomically."""
    write_bytes(path, content.encode())


def read_regular(path: Path) -> bytes:
    """A file's content, without ever waiting for it as for a pipe's. Raises OSError where it is no regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()


def _as_if_written_in_place(temporary: Path, path: Path) -> None:
    """Give a file, which mkstemp made private, the mode and owner that an ordinary open() for writing would leave."""
    try:
        there = path.stat()
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        return
    with suppress(PermissionError):  # only root can give a file to another
        os.chown(temporary, there.st_uid, there.st_gid)
    temporary.chmod(stat.S_IMODE(there.st_mode))
