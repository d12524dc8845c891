"""Bodies that were being decoded when a gateway crashed or hung: one that was there twice is refused for a while.

A gateway notes what it decodes in a file that outlives it; the supervisor reads the file of one that has crashed, and
writes which bodies all gateways refuse.
"""

import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from fashion_mnist.errors import SuspectBody
from fashion_mnist.system import atomic

CRASHES: Final = 2
"""In so many of which a body was being decoded it is suspected."""

REFUSED_S: Final = 600.0

_SAMPLE_BYTES: Final = 4096
_PLACES: Final = 8
"""More than there are threads that decode, the event loop's included."""

_MESSAGE: Final = (
    "the server ended twice while it decoded this body, which is refused for ten minutes: "
    "send the image in another format"
)


def key_of(body: bytes) -> int:
    """What a body is known by, never 0. Of a long one its beginning, its end and its length."""
    sample = body if len(body) <= 2 * _SAMPLE_BYTES else body[:_SAMPLE_BYTES] + body[-_SAMPLE_BYTES:]
    return zlib.crc32(sample) << 32 | (len(body) & 0xFFFFFFFF) or 1


def in_flight_path(metrics: Path) -> Path:
    """Where the gateway that has its figures in `metrics` notes what it decodes."""
    return metrics.with_name(f"{metrics.name}-decoding")


def refused_path(metrics: Path) -> Path:
    """Where the supervisor writes what gateways refuse."""
    return metrics.with_name("refused")


class InFlight:
    """What one gateway decodes now, and which bodies it refuses."""

    def __init__(self, metrics: Path) -> None:
        """`metrics` is the file of its figures."""
        path = in_flight_path(metrics)
        path.write_bytes(bytes(8 * _PLACES))
        self._keys = np.memmap(path, np.uint64, "r+")
        self._free = list(range(_PLACES))
        self._path = refused_path(metrics)
        self._read: tuple[int, int] | None = None
        self._refused: frozenset[int] = frozenset()
        self.refresh()

    def refresh(self) -> None:
        """Read what is refused, if it changed."""
        try:
            found = self._path.stat()
            if (read := (found.st_ino, found.st_mtime_ns)) != self._read:
                self._refused = frozenset(np.fromfile(self._path, np.uint64).tolist())
                self._read = read
        except OSError:
            self._refused = frozenset()

    def decode(self, body: bytes, decode: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `decode`, noted down while it works. Raises SuspectBody where the body is refused."""
        key = key_of(body)
        if key in self._refused:
            raise SuspectBody(_MESSAGE)
        place = self._free.pop() if self._free else None
        if place is None:
            return decode(*arguments)
        self._keys[place] = key
        try:
            return decode(*arguments)
        finally:
            self._keys[place] = 0
            self._free.append(place)


class Suspects:
    """The supervisor's: how often each body was being decoded when a gateway crashed."""

    def __init__(self, metrics: Path) -> None:
        """`metrics` is the file of any gateway's figures."""
        self._path = refused_path(metrics)
        self._crashes: Counter[int] = Counter()
        self._until: dict[int, float] = {}

    def crashed(self, metrics: Path) -> int:
        """A gateway has crashed, or hung; how many bodies are refused now."""
        try:
            keys = np.fromfile(in_flight_path(metrics), np.uint64).tolist()
        except OSError:
            keys = []
        for key in filter(None, keys):
            self._crashes[key] += 1
            if self._crashes[key] >= CRASHES:
                self._until[key] = time.monotonic() + REFUSED_S
        self._write()
        return len(self._until)

    def forget(self) -> None:
        """Refuse no more what has been refused for long enough; to be called now and then."""
        now = time.monotonic()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key], self._crashes[key]
            self._write()

    def _write(self) -> None:
        atomic.write_bytes(self._path, np.array([*self._until], np.uint64).tobytes())
