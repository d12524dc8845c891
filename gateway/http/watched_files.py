"""Files that operators replace while we run."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias, TypeVar

from fashion_mnist.errors import FashionMNISTError

_Stamp: TypeAlias = tuple[int, ...] | None
_Content = TypeVar("_Content")


class WatchedFiles:
    """Some files, and how they looked when they were last read."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._paths = tuple(paths)
        self._stamps: list[_Stamp] = []
        self._unusable = ""  # why they could not be read the last time

    def changed(self) -> bool:
        """Whether one was written, replaced, removed or put back since the last call. True at the first."""
        # Before they are read: what is written while we read is noticed the next time.
        stamps = [_stamp(path) for path in self._paths]
        changed, self._stamps = stamps != self._stamps, stamps
        return changed

    def read_changed(self, read: Callable[[], _Content], log: logging.Logger, otherwise: str) -> _Content | None:
        """What `read` makes of them where one changed; None where none did, or where it raises FashionMNISTError.

        Then the log says `otherwise` and why, once, and they are read again at the next call, whatever they look like.
        """
        if not self.changed():
            return None
        try:
            content = read()
        except FashionMNISTError as error:
            self._stamps = []
            if error.message != self._unusable:
                log.error(otherwise, extra={"reason": error.message})
            self._unusable = error.message
            return None
        self._unusable = ""
        return content


def _stamp(path: str | Path) -> _Stamp:
    try:
        # A link is followed: Kubernetes replaces mounted files by turning a link to another folder.
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
