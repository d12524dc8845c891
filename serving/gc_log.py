"""What the JVM's garbage collector did, as its log tells: the JVM writes a line for each collection, and we read on."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAUSE: Final = re.compile(r"GC\(\d+\) Pause .* \d+M->(\d+)M\((\d+)M\) ([\d.]+)ms$", re.MULTILINE)
"""Heap after the collection and its capacity, in MiB, and how long everything stood still."""


def jvm_argument(path: Path) -> str:
    """The JVM's flag for this log: two files of 1 MB at most, some ten thousand collections each."""
    return f"-Xlog:gc:file={path}:uptime:filecount=1,filesize=1m"


@dataclass
class GcLog:
    """One JVM's log, and the sums of what it said so far; they go on when the JVM is started again."""

    path: Path
    pauses: int = 0
    seconds: float = 0.0
    """In which the JVM stood still."""
    heap_bytes: int | None = None
    """In use after the last collection; None before the first one."""
    capacity_bytes: int | None = None
    """Of the heap then: it grows up to the limit."""
    _inode: int = 0
    _offset: int = 0

    def read(self) -> None:
        """Take in what was written since; nothing where there is no log."""
        try:
            inode = self.path.stat().st_ino
            if inode != self._inode:
                # A full log, and that of an earlier JVM, is renamed. Its last lines have not been read.
                older = self.path.with_name(f"{self.path.name}.0")
                if self._inode and older.exists() and older.stat().st_ino == self._inode:
                    self._take(older)
                self._inode, self._offset = inode, 0
            self._take(self.path)
        except FileNotFoundError:
            return

    def _take(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._offset)
            found = file.read()
        whole = found[: found.rfind(b"\n") + 1]  # the JVM may be writing a line
        self._offset += len(whole)
        for heap, capacity, milliseconds in _PAUSE.findall(whole.decode(errors="replace")):
            self.pauses += 1
            self.seconds += float(milliseconds) / 1000
            self.heap_bytes, self.capacity_bytes = int(heap) << 20, int(capacity) << 20
