"""What a process takes of the machine's memory at its peak."""

from pathlib import Path

import psutil


class Peak:
    """The most that a process has in memory from here on, over what it has now."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak is what there is now: proc(5)
        self._before = self._kib("VmRSS")

    def _kib(self, name: str) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def grown(self) -> int:
        """In bytes."""
        return (self._kib("VmHWM") - self._before) * 1024

    def kept(self) -> int:
        """How much of it is still there, in bytes."""
        return (self._kib("VmRSS") - self._before) * 1024
