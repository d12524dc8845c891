"""Files that operators replace while we run."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[int, ...] | None


class WatchedFiles:
    """Some files, and how they looked when they were last read."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._paths = tuple(paths)
        self._stamps: list[_Stamp] = []

    def changed(self) -> bool:
        """Whether one was written, replaced, removed or put back since the last call. True at the first."""
        # Before they are read: what is written while we read is noticed the next time.
        stamps = [_stamp(path) for path in self._paths]
        changed, self._stamps = stamps != self._stamps, stamps
        return changed

    def forget(self) -> None:
        """They could not be read: `changed` is true the next time, whatever they look like."""
        self._stamps = []


def _stamp(path: str | Path) -> _Stamp:
    try:
        # A link is followed: Kubernetes replaces mounted files by turning a link to another folder.
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
