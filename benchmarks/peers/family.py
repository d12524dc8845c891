"""Everything that a server starts, however it leaves its parent: seen while it runs, and ended with it."""

import contextlib
import ctypes
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from benchmarks.load import RunFailed
from serving import processes

_LIBC: Final = ctypes.CDLL(None)
_PR_SET_CHILD_SUBREAPER: Final = 36
_END_S: Final = 10.0


class Family:
    """The processes that came to this one since it was made."""

    def __init__(self) -> None:
        # What loses its parent becomes ours, and so is still seen: daemons too.
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._others = set(psutil.Process().children(recursive=True))

    def members(self) -> set[psutil.Process]:
        """Those that run, all generations."""
        return set(psutil.Process().children(recursive=True)) - self._others

    def cpu_s(self, root: int) -> float:
        """Seconds of processor time that they have used, with `root`'s descendants, who may be a daemon's."""
        total = 0.0
        for process in self.members() | set(processes.tree(root)):
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def memory_mib(self, root: int) -> dict[str, float]:
        """MiB: `rss` resident, with shared pages counted for each; `pss` with shared pages divided among users."""
        total = {"rss": 0.0, "pss": 0.0}
        for process in self.members() | set(processes.tree(root)):
            # One may end meanwhile; of a zombie there is nothing to read.
            with contextlib.suppress(OSError):
                said = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                for name, kib in re.findall(r"^(Rss|Pss): +(\d+) kB", said, flags=re.MULTILINE):
                    total[name.lower()] += int(kib) / 1024
        return total

    def end(self) -> None:
        """Kill whoever is left. Raises RunFailed where that takes too long."""
        deadline = time.monotonic() + _END_S
        while left := self.members():
            if time.monotonic() > deadline:
                raise RunFailed(f"still running: {', '.join(str(process) for process in left)}")
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)


@contextmanager
def family() -> Iterator[Family]:
    """The family of what is started within; leaving it ends whoever is left."""
    found = Family()
    try:
        yield found
    finally:
        found.end()
