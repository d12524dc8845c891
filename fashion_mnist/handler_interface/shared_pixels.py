"""Pixels in memory that is shared with another process of the same user, without copies through sockets.

The writer keeps them in an anonymous file (memfd) and sends a short message with its location: the kernel gives a
process's open files to processes of the same user. The reader maps that memory once and reads in place.

Messages must not make a reader read arbitrary memory: the memory ends with random bytes that the message repeats, and
it is sealed, because truncating it would kill the reader.
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
"""The media type of a message."""

MAX_MAPPED: Final = 16
"""Memories that a reader keeps mapped, including those of writers that have ended."""

_TOKEN_BYTES: Final = 16
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_MESSAGE: Final = re.compile(rb"(\d{1,10}) (\d{1,10}) ([0-9a-f]{32}) (\d{1,9})")


class Writer:
    """Memory for one batch of images at a time, which stays valid until the next `write`."""

    def __init__(self, max_images: int, geometry: Geometry = FASHION_MNIST.geometry) -> None:
        """Allocate memory for up to `max_images`. Raises OSError if there is none."""
        token = secrets.token_bytes(_TOKEN_BYTES)
        size = max_images * math.prod(geometry)
        self._fd = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, size + _TOKEN_BYTES)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
            memory = mmap.mmap(self._fd, size + _TOKEN_BYTES)
        except OSError:
            os.close(self._fd)
            raise
        memory[size:] = token
        self._images = np.frombuffer(memory, np.uint8, size).reshape(max_images, *geometry)
        self._location = f"{os.getpid()} {self._fd} {token.hex()}"

    def write(self, images: Pixels) -> bytes:
        """Write images, uint8 [n, c, h, w], with n up to `max_images`, and return the message with their location."""
        self._images[: len(images)] = images
        return f"{self._location} {len(images)}".encode()

    def close(self) -> None:
        """Release the memory; a reader that has mapped it can still read it."""
        os.close(self._fd)
        del self._images  # and with it the mapping, which has its own descriptor


class Reader:
    """Maps the memory of writers."""

    def __init__(self, geometry: Geometry = FASHION_MNIST.geometry) -> None:
        self._geometry = geometry
        self._mapped: dict[bytes, Pixels] = {}

    def read(self, message: bytes) -> Pixels:
        """The images, uint8 [n, channels, height, width], that a message refers to, in place and read-only.

        Raises BadParameter if the message is invalid, or its memory cannot be read.
        """
        parts = _MESSAGE.fullmatch(message)
        if parts is None:
            raise BadParameter(f"{MEDIA_TYPE} is reserved for this service's gateway: send raw pixels")
        pid, fd, token, count = parts.groups()
        images = self._mapped.get(token)
        if images is None:
            images = _map(int(pid), int(fd), bytes.fromhex(token.decode()), self._geometry)
            if len(self._mapped) >= MAX_MAPPED:
                del self._mapped[next(iter(self._mapped))]
            self._mapped[token] = images
        if int(count) > len(images):
            raise BadParameter(f"the message has {int(count):,} images, but the memory has {len(images):,}")
        return images[: int(count)]


def _map(pid: int, fd: int, token: bytes, geometry: Geometry) -> Pixels:
    unreadable = BadParameter("the request's shared memory cannot be read: send raw pixels")
    try:
        opened = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise unreadable from None
    try:
        if fcntl.fcntl(opened, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise unreadable
        memory = mmap.mmap(opened, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):  # not a memfd, or an empty one
        raise unreadable from None
    finally:
        os.close(opened)
    count = (len(memory) - _TOKEN_BYTES) // math.prod(geometry)
    if not hmac.compare_digest(memory[-_TOKEN_BYTES:], token):
        raise unreadable
    return np.frombuffer(memory, np.uint8, count * math.prod(geometry)).reshape(count, *geometry)
