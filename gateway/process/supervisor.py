"""`fashion-mnist serve`: the engine and the gateways in front of it, restarted when they die, ended when we say so."""

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final

from fashion_mnist.errors import ServingError
from fashion_mnist.model_store import read_health_image
from fashion_mnist.settings import Settings
from fashion_mnist.system.line_sink import LineSink, relayed
from gateway.grpc import ENVIRONMENT as GRPC_ENVIRONMENT
from gateway.http import keys, listening
from gateway.http.cors import Cors
from gateway.http.keys import Keyring
from gateway.http.tls import open_tls
from gateway.models.suspects import Suspects
from gateway.observability.metrics import paths_of, written_s
from gateway.process import admin
from gateway.process.restarts import Restarts
from gateway.process.rollout import RESTARTS, Build, Rollout
from gateway.process.worker import Task
from serving import processes, readiness, state
from serving.config import check_free
from serving.health_check import HealthCheck
from serving.torchserve import SOCKET_PATH_LENGTH

WATCH_S: Final = 0.05
KILL_S: Final = 2.0
"""How much longer than `shutdown_timeout_s` a gateway may take to end."""

_ENVIRONMENT: Final = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""For gateways: glibc gives the room of large bodies and images back when they are freed, and keeps none for others."""

_CRASHES: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
"""What ends a process by its own doing: of a body that it decodes, perhaps."""

Tell = Callable[[str], None]


class _Stop(BaseException):
    """A signal asked us to end. It comes anywhere in the main thread, where nobody must take it for an error."""


def serve(
    settings: Settings, model_store: Path, build_archive: Build, on_ready: Callable[[str, float], None], tell: Tell
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then let open requests be answered, and return; no process survives.

    `build_archive` writes TorchServe's archive of a model store, its first argument, to a path, its second; `on_ready`
    is called with the URL and the seconds it took, when a real image got its right label, at first and after each
    restart; `tell` with what else a person should know. What dies, or answers no health check, is replaced: at once,
    then later and later. Raises ServingError where the server cannot start, or has died six times without an answer.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stop(number)

    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # nohup: it is to outlive its terminal
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        listening.allow_connections()
        with _Server(settings, model_store, build_archive, tell) as server:
            try:
                server.start()
                server.watch(on_ready)
            except _Stop as stopped:
                # From here on a second signal must not interrupt what ends the processes.
                for number in previous:
                    signal.signal(number, signal.SIG_IGN)
                server.drain(stopped.args[0])
    except _Stop:
        pass  # before there was anything to stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Server:
    """The processes of one `serve`, its sockets and its folder. Leaving it ends them all."""

    def __init__(self, settings: Settings, model_store: Path, build_archive: Build, tell: Tell) -> None:
        log_format = settings.log_format
        if log_format == "auto":
            log_format = "text" if os.isatty(2) else "json"
        # What goes to other processes can be read by everybody on the machine.
        self._settings = dataclasses.replace(settings, key="", log_format=log_format)
        self._model_store = model_store
        self._build_archive = build_archive
        self._tell = tell
        self._health_image = read_health_image(model_store)
        self._gateways: list[subprocess.Popen[bytes]] = []
        self._ended: set[int] = set()
        """Places of gateways that are to be started again."""
        self._was_ready = False
        self._begun: dict[int, float] = {}
        """When the gateway in each place was started."""
        self._restarts: list[Restarts] = []
        self._checks: list[HealthCheck] = []
        self._deaths = 0
        """Of processes that had not begun to serve, since all was well."""
        Cors(settings.cors_origins)  # raises here, where a person reads it
        self._tls = open_tls(settings)
        self._keyring = Keyring(Path(settings.key_file)) if keys.required(settings) else None
        self._cleanup = ExitStack()

    def __enter__(self) -> "_Server":
        settings = self._settings
        # A socket of ours may share its port with others of ours: somebody else's would not be noticed otherwise.
        check_free(settings.host, settings.port, "PORT")
        if settings.grpc == "on":
            check_free(settings.host, settings.grpc_port, "GRPC_PORT")
        check_free(settings.admin_host, settings.admin_port, "ADMIN_PORT")
        with self._cleanup as cleanup:
            self._log = cleanup.enter_context(relayed(LineSink(2)))
            self._sockets = listening.listen(settings.host, settings.port, settings.gateways)
            for public in self._sockets:
                cleanup.callback(public.close)
            self._grpc_port = 0
            if settings.grpc == "on":
                reserved = cleanup.enter_context(listening.reserve(settings.host, settings.grpc_port))
                host, self._grpc_port, *_ = reserved.getsockname()
                self._grpc_address = f"[{host}]:{self._grpc_port}" if ":" in host else f"{host}:{self._grpc_port}"
            self._port: int = self._sockets[0].getsockname()[1]
            self._folder = state.folder(settings.host, self._port)
            cleanup.enter_context(state.owned(self._folder))
            if len(longest := str(self._private_sockets()[-1])) > SOCKET_PATH_LENGTH:
                raise ServingError(f"{longest} is too long for a Unix socket: set TMPDIR to a shorter path")
            self._suspects = Suspects(self._metrics()[0])
            self._rollout = Rollout(
                settings, self._folder, self._private_sockets(), self._metrics(), self._build_archive
            )
            cleanup.callback(self._rollout.close)
            self._rollout.begin(self._model_store, self._health_image)
            cleanup.callback(self._kill_gateways)
            pages = admin.application(self._metrics(), self._gateway_pids, self._rollout, self._keyring)
            self._admin_port = cleanup.enter_context(
                admin.serve(settings.admin_host, settings.admin_port, pages, self._tls)
            )
            # First of all: what is under way on the admin port ends.
            cleanup.callback(self._rollout.interrupt)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def start(self) -> None:
        """Start everything; returns when TorchServe answers, if there is one."""
        self._started = time.monotonic()
        self._state = state.State(
            pid=os.getpid(),
            host=self._settings.host,
            port=self._port,
            admin_port=self._admin_port,
            tls=self._tls is not None,
            private_sockets=[str(private_socket) for private_socket in self._private_sockets()],
            grpc_port=self._grpc_port,
        )
        state.write(self._state)
        self._rollout.start()
        self._gateways = [self._start_gateway(place) for place in range(self._settings.gateways)]
        self._restarts = [Restarts() for _ in self._gateways]
        for private_socket in self._private_sockets():
            ask = functools.partial(
                readiness.ask_whether_alive,
                private_socket,
                readiness.LIVE,
                timeout_s=self._settings.health_check_timeout_s,
            )
            self._checks.append(HealthCheck(ask, self._settings.health_check_failures))
            self._cleanup.callback(self._checks[-1].close)
        self._rollout.wait_until_ready()

    def watch(self, on_ready: Callable[[str, float], None]) -> None:
        """Restart what dies, and tell whenever all is well again. Never returns."""
        ready = False
        while True:
            try:
                if not state.is_told(self._folder):
                    state.write(self._state)
                died, served = self._dead()
            except OSError as error:
                # No memory, no open file left: that passes, and nobody but us would start them again.
                self._tell(f"what died cannot be started again yet ({error.strerror})")
                died, served = "", False
            if died:
                self._count_death(died, served=served)
                ready = False
            if not ready and self._answers():
                ready = self._was_ready = True
                self._deaths = 0
                url = readiness.url(
                    self._settings.host, self._port, name=self._rollout.task.name, tls=self._tls is not None
                )
                on_ready(url, time.monotonic() - self._started)
            if self._tls is not None:
                self._tls.refresh()
            self._suspects.forget()
            time.sleep(WATCH_S)

    def drain(self, number: int) -> None:
        """Let the gateways answer what is asked, and end. Then nobody needs TorchServe any more."""
        self._tell("stopping: open requests are answered")
        self._rollout.interrupt()
        for gateway in self._gateways:
            if gateway.poll() is None:
                gateway.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
        deadline = time.monotonic() + self._settings.shutdown_timeout_s + KILL_S
        for gateway in self._gateways:
            try:
                gateway.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tell("a gateway did not end in time and was killed")

    def _dead(self) -> tuple[str, bool]:
        """Restart what has died; its name, or "" where all live, and whether it had begun to serve."""
        died, served = "", False
        for place, gateway in enumerate(self._gateways):
            if place in self._ended:
                if self._restarts[place].due:
                    listening.accept_new_connections(self._sockets[place])
                    self._checks[place].restart()
                    self._gateways[place] = self._start_gateway(place)
                    self._ended.remove(place)
                continue
            hung = gateway.poll() is None and self._checks[place].silent
            if hung:
                self._tell("a gateway answers no health check and is replaced")
                gateway.kill()
                gateway.wait(KILL_S)
            if gateway.poll() is not None:
                if hung or -(gateway.returncode or 0) in _CRASHES:
                    self._note_crash(place)
                processes.stop(gateway, grace_s=0)
                self._restarts[place].ended()
                self._ended.add(place)
                died = "a gateway"
                served = written_s(self._metrics()[place], self._rollout.task) > self._begun[place]
        if died:
            return died, served
        return ("TorchServe" if self._rollout.attend(self._tell) else ""), False

    def _note_crash(self, place: int) -> None:
        """Find out whether a body was being decoded that was so at another crash, too."""
        try:
            refused = self._suspects.crashed(self._metrics()[place])
        except OSError as error:
            self._tell(f"what ended a gateway could not be noted ({error.strerror})")
        else:
            if refused:
                self._tell(f"{refused} bodies are refused for a while: gateways crashed twice while they decoded them")

    def _count_death(self, died: str, *, served: bool) -> None:
        self._deaths += not served
        log = f" The end of its log:\n{self._rollout.log_end()}" if died == "TorchServe" else ""
        if self._deaths and not self._was_ready:
            raise ServingError(f"{died} ended while it started; what it said stands above.{log}")
        if self._deaths > RESTARTS:
            raise ServingError(
                f"{died} died, the {self._deaths}th death of a process that had not begun to serve.{log}"
            )
        self._tell(f"{died} died and is started again")
        self._started = time.monotonic()

    def _answers(self) -> bool:
        """Whether a real image gets its right label through every gateway and the engine."""
        try:
            for private_socket in self._private_sockets():
                readiness.check_health_image_at(private_socket, self._rollout.task, self._health_image)
        except readiness.NotReady as error:
            if time.monotonic() - self._started > self._settings.startup_timeout_s:
                raise ServingError(
                    f"the server was not ready after {self._settings.startup_timeout_s} s: {error}"
                ) from None
            return False
        return True

    def _start_gateway(self, place: int) -> "subprocess.Popen[bytes]":
        self._rollout.restore_files()
        self._begun[place] = time.monotonic()
        public = self._sockets[place].fileno()
        task = Task(
            settings=self._settings,
            # A gateway may have died of one that is being checked.
            versions=self._rollout.wanted.only_open(),
            socket_fd=public,
            grpc_address=self._grpc_address if self._grpc_port else "",
            metrics=self._metrics()[place],
            private_socket=self._private_sockets()[place],
        )
        command = [sys.executable, "-P", "-m", "gateway.process.worker", task.to_json()]
        environment = {**_ENVIRONMENT, **os.environ, **GRPC_ENVIRONMENT}
        return processes.start(command, environment, self._folder, output=self._log, pass_fds=[public])

    def _metrics(self) -> list[Path]:
        return paths_of(self._folder, self._settings.gateways)

    def _private_sockets(self) -> list[Path]:
        return [self._folder / f"gateway-{place}" for place in range(self._settings.gateways)]

    def _gateway_pids(self) -> list[int]:
        return [gateway.pid for gateway in self._gateways]

    def _kill_gateways(self) -> None:
        for gateway in self._gateways:
            processes.stop(gateway, grace_s=0)
