"""Files that operators replace while the service runs."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias, TypeVar

from fashion_mnist.errors import FashionMNISTError

_Stamp: TypeAlias = tuple[int, ...] | None
_Content = TypeVar("_Content")


class WatchedFiles:
    """Some files, and their state when they were last read."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._paths = tuple(paths)
        self._stamps: list[_Stamp] = []
        self._last_error = ""

    def changed(self) -> bool:
        """Whether one was written, replaced, removed or restored since the last call. True at the first call."""
        # Before they are read, so that a change while they are read is noticed the next time.
        stamps = [_stamp(path) for path in self._paths]
        changed, self._stamps = stamps != self._stamps, stamps
        return changed

    def read_changed(self, read: Callable[[], _Content], log: logging.Logger, failure: str) -> _Content | None:
        """The result of `read` if a file changed; None if none did, or if `read` raises FashionMNISTError.

        In that case `failure` and the reason are logged once, and the next call reads the files again.
        """
        if not self.changed():
            return None
        try:
            content = read()
        except FashionMNISTError as error:
            self._stamps = []
            if error.message != self._last_error:
                log.error(failure, extra={"reason": error.message})
            self._last_error = error.message
            return None
        self._last_error = ""
        return content


def _stamp(path: str | Path) -> _Stamp:
    try:
        # Follow links: Kubernetes replaces mounted files by pointing a link to another folder.
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
