"""Pixels for another process of this machine and user, without a copy through sockets.

The writer keeps them in memory without a name in any file system, and says in a short message where: the kernel shows a
process's open files to processes of the same user. The reader maps that memory once and reads where it lies.

Whoever can send a reader messages must not have it read just anything: the memory ends with random bytes that the
message repeats, and it is sealed, so that nobody can cut it short under the reader, which would be its death.
"""

import fcntl
import hmac
import math
import mmap
import os
import re
import secrets
from typing import Final

import numpy as np

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import BadParameter
from fashion_mnist.task import FASHION_MNIST, Geometry

MEDIA_TYPE: Final = "application/x-shared-pixels"
"""What a message is sent as."""

KEPT: Final = 16
"""Memories that a reader keeps mapped. A writer that is gone leaves one behind."""

_TOKEN_BYTES: Final = 16
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_MESSAGE: Final = re.compile(rb"(\d{1,10}) (\d{1,10}) ([0-9a-f]{32}) (\d{1,9})")


class Writer:
    """Memory for some images, one batch at a time: it holds them until the next `write`."""

    def __init__(self, most: int, geometry: Geometry = FASHION_MNIST.geometry) -> None:
        """Take memory for at most so many images. Raises OSError where the system gives none."""
        token = secrets.token_bytes(_TOKEN_BYTES)
        size = most * math.prod(geometry)
        self._fd = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, size + _TOKEN_BYTES)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
            memory = mmap.mmap(self._fd, size + _TOKEN_BYTES)
        except OSError:
            os.close(self._fd)
            raise
        memory[size:] = token
        self._images = np.frombuffer(memory, np.uint8, size).reshape(most, *geometry)
        self._where = f"{os.getpid()} {self._fd} {token.hex()}"

    def write(self, images: Pixels) -> bytes:
        """Put images there, uint8 [n, c, h, w], as many as there is room for; the message that says where they are."""
        self._images[: len(images)] = images
        return f"{self._where} {len(images)}".encode()

    def close(self) -> None:
        """Let go of the memory; a reader that has mapped it still can read it."""
        os.close(self._fd)
        del self._images  # and with it the mapping, which keeps a descriptor of its own


class Reader:
    """What maps the memory of writers."""

    def __init__(self, geometry: Geometry = FASHION_MNIST.geometry) -> None:
        self._geometry = geometry
        self._mapped: dict[bytes, Pixels] = {}

    def read(self, message: bytes) -> Pixels:
        """The images, uint8 [n, channels, height, width], that a message tells of, where they lie; read-only.

        Raises BadParameter where the message is none, or what it names cannot be read from here.
        """
        parts = _MESSAGE.fullmatch(message)
        if parts is None:
            raise BadParameter(f"{MEDIA_TYPE} is for the gateway of this service: send pixels as they are")
        pid, fd, token, count = parts.groups()
        images = self._mapped.get(token)
        if images is None:
            images = _map(int(pid), int(fd), bytes.fromhex(token.decode()), self._geometry)
            if len(self._mapped) >= KEPT:
                del self._mapped[next(iter(self._mapped))]
            self._mapped[token] = images
        if int(count) > len(images):
            raise BadParameter(f"there are no {int(count):,} images in memory for {len(images):,}")
        return images[: int(count)]


def _map(pid: int, fd: int, token: bytes, geometry: Geometry) -> Pixels:
    unreadable = BadParameter("the memory that the request names cannot be read from here: send pixels as they are")
    try:
        opened = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise unreadable from None
    try:
        if fcntl.fcntl(opened, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise unreadable
        memory = mmap.mmap(opened, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):  # no memory that could be sealed; an empty one
        raise unreadable from None
    finally:
        os.close(opened)
    count = (len(memory) - _TOKEN_BYTES) // math.prod(geometry)
    if not hmac.compare_digest(memory[-_TOKEN_BYTES:], token):
        raise unreadable
    return np.frombuffer(memory, np.uint8, count * math.prod(geometry)).reshape(count, *geometry)
