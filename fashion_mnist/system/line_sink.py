"""Output lines, written by a separate thread, so that a full disk or a stalled reader blocks nothing else."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MAX_BUFFERED_BYTES: Final = 256 * 1024
"""The buffer for a slow reader; further lines are dropped and counted."""

CLOSE_S: Final = 1.0
"""The time to write the last lines."""


class LineSink:
    """Writes to a file descriptor. `write` never blocks and never fails."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="lines", daemon=True).start()

    def write(self, lines: bytes) -> None:
        """Queue complete lines; they are dropped if the buffer is full."""
        with self._changed:
            if self._bytes + len(lines) > MAX_BUFFERED_BYTES:
                self._dropped += lines.count(b"\n")
                return
            self._lines.append(lines)
            self._bytes += len(lines)
            self._changed.notify_all()

    def print(self, text: str) -> None:
        """Queue one line of text; characters that cannot be encoded are escaped."""
        self.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """Wait until everything is written, for at most `CLOSE_S`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing, CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                content, self._lines, self._writing = b"".join(self._lines), [], True
                self._bytes = 0
                if self._dropped:
                    content += b"%d lines before this one were dropped: they were not read in time\n" % self._dropped
                    self._dropped = 0
            self._write(content)

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            # A full disk, a broken pipe or a closed terminal: there is nowhere to report it.
            with self._changed:
                self._dropped += bytes(rest).count(b"\n")


@contextmanager
def relayed(sink: LineSink) -> Iterator[int]:
    """A pipe for the output of other processes, which never block on the sink's reader; yields its write end.

    Leave the context after these processes have ended.
    """
    reading, writing = os.pipe()

    def relay() -> None:
        while received := os.read(reading, 65536):
            sink.write(received)

    thread = threading.Thread(target=relay, name="relay", daemon=True)
    thread.start()
    try:
        yield writing
    finally:
        os.close(writing)
        thread.join(CLOSE_S)
        if not thread.is_alive():
            os.close(reading)
        sink.close()


def open_standard_files() -> None:
    """Open closed descriptors among 0 to 2 on /dev/null, so that no socket or file takes their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - until the end
