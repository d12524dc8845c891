"""One TorchServe: started, watched until it is truly ready, stopped."""

import contextlib
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from fashion_mnist.errors import ServingError
from fashion_mnist.model_store import model_task, read_health_image
from fashion_mnist.settings import Settings
from serving import config, gc_log, java, processes, readiness
from serving.config import RunFolder
from serving.kept_files import KeptFiles

POLL_S: Final = 0.05
PING_S: Final = 0.5
"""How long a JVM has to say that it lives, when its workers are silent."""

CRASHES: Final = 2
"""A worker that dies so often before the first answer dies for a reason that stays."""

LOG_LINES: Final = 15
SOCKET_PATH_LENGTH: Final = 107
"""Longest path of a Unix socket on Linux."""

_EXCEPTION: Final = re.compile(r"MODEL_LOG - ((?:[a-z_]+\.)*[A-Z][A-Za-z]+: .+)")
"""The last line of a worker's traceback, as the log has it."""

Build = Callable[[Path], object]
"""Writes the archive to the path that it is given."""


class TorchServe:
    """A TorchServe in a folder of its own.

    Use it as a context manager: leaving it ends every process that it started, and removes the folder.
    """

    def __init__(self, settings: Settings, model_store: Path, folder: Path, *, port: int = 0) -> None:
        """`folder` is where its files go; nothing is written or started yet.

        With a `port` it takes images there from everybody on this machine, and not at a socket of its folder: for
        those who measure or test it alone.
        """
        self.settings = settings
        self.port = port
        self.folder = RunFolder(folder)
        self._files = KeptFiles()
        self._health_image, self._task = read_health_image(model_store), model_task(model_store)
        self._process: subprocess.Popen[bytes] | None = None
        self._checked: frozenset[int] = frozenset()
        """The workers that a health check was about."""
        self._patience_s = math.inf
        """Until when these may be silent; 0 where they have answered."""

    @property
    def url(self) -> str:
        """Where images are sent, if it has a port."""
        return readiness.url(config.LOOPBACK, self.port, name=self._task.name)

    @property
    def pid(self) -> int:
        """The JVM's process id, 0 where none runs."""
        process = self._process  # another thread may stop it
        return process.pid if process else 0

    def __enter__(self) -> "TorchServe":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(grace_s=0)
        shutil.rmtree(self.folder.path, ignore_errors=True)

    def prepare(self, build_archive: Build) -> None:
        """Write the configuration and the archive. Raises ServingError where the disk does not take them."""
        longest = self.folder.temporary / ".ts.sock.9999"
        if len(str(longest)) > SOCKET_PATH_LENGTH:
            raise ServingError(f"{longest} is too long for a Unix socket: set TMPDIR to a shorter path")
        try:
            shutil.rmtree(self.folder.path, ignore_errors=True)
            self.folder.path.mkdir(mode=0o700, parents=True)
            config.write(self.folder, self.settings, self.port)
            build_archive(self.folder.store / config.ARCHIVE)
            self._files.keep([self.folder.path])
        except OSError as error:
            raise ServingError(
                f"{self.folder.path} cannot be written ({error.strerror or error}): make room there, or set TMPDIR to "
                "a folder with some 100 MB of it"
            ) from None

    def start(self) -> None:
        """Start the JVM, which starts the workers. Returns at once. Raises OSError."""
        self._files.restore()
        self.folder.temporary.mkdir(exist_ok=True)
        # What an earlier one has left: it takes no address that is there, and writes new keys.
        for left in (self.folder.inference, self.folder.management, self.folder.metrics, self.folder.keys):
            left.unlink(missing_ok=True)
        with (self.folder.path / "jvm.out").open("ab") as output:
            self._process = processes.start(self._command(), self._environment(), self.folder.path, output)

    def wait_until_ready(self) -> float:
        """Wait until the health-check image gets its label; the seconds it took.

        Raises ServingError, with the log's end, as soon as it is clear that it will not, and at the latest after
        `startup_timeout_s`.
        """
        started = time.monotonic()
        deadline = started + self.settings.startup_timeout_s
        reason: Exception | None = None
        workers: dict[int, psutil.Process] = {}
        while time.monotonic() < deadline:
            if not self.running():
                raise self._failure("TorchServe ended while it started")
            for worker in self._workers():
                workers.setdefault(worker.pid, worker)
            if sum(not processes.alive(worker) for worker in workers.values()) >= CRASHES:
                raise self._failure("TorchServe's worker dies again and again while it loads the model")
            try:
                self.check_health_image()
                return time.monotonic() - started
            except readiness.ModelNotLoaded as error:
                raise self._failure(f"TorchServe did not load the model: {error}") from None
            except readiness.WrongLabel as error:
                raise ServingError(f"TorchServe serves a wrong model: {error}") from None
            except readiness.NotReady as error:
                reason = error
            time.sleep(POLL_S)
        raise self._failure(f"TorchServe was not ready after {self.settings.startup_timeout_s} s: {reason}")

    def check_health_image(self, timeout_s: float = readiness.TIMEOUT_S) -> None:
        """Raise readiness.NotReady where the health-check image does not get its label now."""
        if self.port:
            readiness.check_health_image(config.LOOPBACK, self.port, self._task, self._health_image)
        else:
            authorization = self.folder.authorization()
            readiness.check_health_image_at(
                self.folder.inference, self._task, self._health_image, authorization=authorization, timeout_s=timeout_s
            )

    def check(self, timeout_s: float) -> None:
        """Raise readiness.Silent where it says nothing in time, with workers that have answered before.

        Others may still load the model, for as long as a start may take: then it raises another NotReady.
        """
        try:
            self.check_health_image(timeout_s)
        except readiness.Silent:
            workers = frozenset(worker.pid for worker in self._workers())
            now = time.monotonic()
            if workers != self._checked:
                self._checked, self._patience_s = workers, now + self.settings.startup_timeout_s
            if now < self._patience_s:
                raise readiness.NotReady("its workers are being started") from None
            raise
        else:
            if self._patience_s:
                self._checked, self._patience_s = frozenset(worker.pid for worker in self._workers()), 0.0

    def end_what_is_silent(self) -> str:
        """End the workers where the JVM itself answers, which starts others, and else all; what was ended."""
        authorization = self.folder.authorization()
        try:
            readiness.ask_whether_alive(
                self.folder.inference, readiness.PING, timeout_s=PING_S, authorization=authorization
            )
        except readiness.NotReady:
            self.stop(grace_s=0)
            return "TorchServe"
        for worker in self._workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        return "TorchServe's worker"

    def running(self) -> bool:
        """Whether the JVM runs."""
        process = self._process
        return process is not None and process.poll() is None

    def stop(self, grace_s: float) -> bool:
        """End the JVM and its workers, after `grace_s` seconds by force. True where no force was needed.

        On SIGTERM TorchServe closes its port and every connection, also those that wait for an answer (measured), and
        ends some 3 s later. Answering them first takes a proxy in front of it.
        """
        if self._process is None:
            return True
        in_time = processes.stop(self._process, grace_s)
        self._process = None
        return in_time

    def log_end(self) -> str:
        """The exceptions at the log's end, else its last lines, else what the JVM said before it had a log."""
        for path in (self.folder.log, self.folder.path / "jvm.out"):
            try:
                lines = path.read_text(errors="replace").splitlines()
            except OSError:
                continue
            # The same traceback comes with each new worker; its last line says what happened.
            if exceptions := list(dict.fromkeys(match[1] for match in map(_EXCEPTION.search, lines) if match)):
                return "\n".join(exceptions[-LOG_LINES:])
            if lines:
                return "\n".join(lines[-LOG_LINES:])
        return "(the log is empty)"

    def _workers(self) -> list[psutil.Process]:
        return processes.tree(self.pid)[1:]

    def _failure(self, message: str) -> ServingError:
        log = self.log_end()
        if "No space left on device" in log:
            message += f"; there is no space left on the disk of {self.folder.path}: make room, or set TMPDIR"
        return ServingError(f"{message}. The end of its log:\n{log}")

    def _command(self) -> list[str | Path]:
        # What `torchserve --start --foreground` would run, without a Python process that stays between us.
        home = config.torchserve_folder().parent
        return [
            java.find_java(),
            f"-Dmodel_server_home={home}",
            f"-Dlog4j.configurationFile={self.folder.log_configuration.as_uri()}",
            f"-Djava.io.tmpdir={self.folder.temporary}",
            *config.jvm_arguments(self.settings),
            gc_log.jvm_argument(Path(self.folder.gc_log.name)),  # it runs there, and -Xlog knows no escapes
            "-cp",
            f"{home}/ts/frontend/*",
            "org.pytorch.serve.ModelServer",
            *("--python", sys.executable),
            *("-f", self.folder.properties),
            *("-s", self.folder.store),
            "-ncs",
        ]

    def _environment(self) -> dict[str, str]:
        # TorchServe's own variables would override the configuration that was just written.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TS_", "PYTHONPATH"))}
        return inherited | {
            "TMPDIR": str(self.folder.temporary),
            "TEMP": str(self.folder.temporary),
            "LOG_LOCATION": str(self.folder.path),
            "METRICS_LOCATION": str(self.folder.path),
            # Threads of libraries that nobody asked for; the engine's own number is a setting.
            "OMP_NUM_THREADS": str(self.settings.threads),
            "TS_DECODE_INPUT_REQUEST": "false",
            # Java takes the encoding of file names from here, and knows ASCII alone where nothing is said.
            "LC_ALL": "C.UTF-8",
        }
