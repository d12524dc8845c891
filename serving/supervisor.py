"""`fashion-mnist serve`: TorchServe in the foreground, restarted when its JVM dies, ended when we are told to."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import psutil

from fashion_mnist.errors import ServingError
from fashion_mnist.settings import Settings
from serving import state
from serving.torchserve import Build, TorchServe

RESTARTS: Final = 3
PER_S: Final = 60.0
WATCH_S: Final = 0.2

Tell = Callable[[str], None]


class _Stop(Exception):
    """A signal asked us to end."""


def serve(
    settings: Settings, model_store: Path, build_archive: Build, on_ready: Callable[[str, float], None], tell: Tell
) -> None:
    """Serve until SIGINT or SIGTERM, then stop and return; no process survives.

    `build_archive` writes the archive to the path it is given; `on_ready` is called with the URL and the seconds it
    took, at first and after each restart; `tell` with what else a person should know. A JVM that dies is restarted,
    at most three times a minute. Raises ServingError where the server cannot start or keeps dying.
    """
    server = TorchServe(settings, model_store)
    previous = {number: signal.signal(number, _raise_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            _run(server, build_archive, on_ready, tell)
    except _Stop:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(server: TorchServe, build_archive: Build, on_ready: Callable[[str, float], None], tell: Tell) -> None:
    server.prepare(build_archive)
    deaths: list[float] = []
    try:
        while True:
            server.start()
            _publish(server, ready=False)
            took = server.wait_until_ready()
            _publish(server, ready=True)
            on_ready(server.url, took)
            while server.running():
                time.sleep(WATCH_S)
            now = time.monotonic()
            deaths = [death for death in deaths if now - death < PER_S] + [now]
            if len(deaths) > RESTARTS:
                raise ServingError(
                    f"TorchServe died {len(deaths)} times within a minute. The end of its log:\n{server.log_end()}"
                )
            tell("TorchServe died; starting it again")
            server.stop(grace_s=0)
    except _Stop:
        # From here on a second signal must not interrupt what ends the processes.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        tell("stopping: open connections are closed")
        if not server.stop(server.settings.stop_timeout_s):
            tell(f"TorchServe did not end within {server.settings.stop_timeout_s} s and was killed")


def _publish(server: TorchServe, *, ready: bool) -> None:
    state.write(
        state.State(
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            jvm_pid=server.pid,
            host=server.settings.host,
            port=server.ports.inference,
            management_port=server.ports.management,
            metrics_port=server.ports.metrics,
            ready=ready,
        )
    )


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise _Stop
