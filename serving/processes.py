"""Processes that end with us, and take what they started with them."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import psutil

_LIBC: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1
_KILL_DEADLINE_S: Final = 5.0


def start(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    output: IO[bytes] | int | None,
    pass_fds: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, so that a Ctrl-C reaches only us, and which dies when we are killed.

    `output` is where it writes to, by default where we do; it inherits the open files `pass_fds`.
    To be called from the main thread: the kernel watches the thread that forks.
    """
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=pass_fds,
        preexec_fn=_die_with_parent,
    )


def tree(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def alive(process: psutil.Process) -> bool:
    """Whether a process runs: one that ended and was not waited for yet does not. It may end while we look."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop(process: "subprocess.Popen[bytes]", grace_s: float) -> bool:
    """End a process and all that it started: SIGTERM, `grace_s` seconds, then SIGKILL. True where the term sufficed."""
    family = tree(process.pid)
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(grace_s)
        in_time = True
    except subprocess.TimeoutExpired:
        in_time = False
    # Once more: it may have started others meanwhile.
    survivors = {*family, *tree(process.pid)}
    for survivor in survivors:
        try:
            survivor.kill()
        except psutil.NoSuchProcess:
            continue
    # What it started before it was killed by others is no longer its child, but still in its session's group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_KILL_DEADLINE_S)
    psutil.wait_procs(survivors, timeout=_KILL_DEADLINE_S)
    return in_time


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
