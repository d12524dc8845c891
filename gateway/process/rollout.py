"""Which versions of the model are served: loaded, checked, made the default, unloaded, while the server runs.

The supervisor has it. Operators ask for changes on the admin port, in threads of that; gateways are told what is wanted
by their private sockets, and one that is started again begins with it. Processes are started and ended by the main
thread alone: the kernel ends them with the thread that started them.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import json
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from fashion_mnist.data.splits import Split
from fashion_mnist.drift import Reference
from fashion_mnist.engines import graphs
from fashion_mnist.errors import FashionMNISTError, NotFound, ServingError, Unavailable, VersionError
from fashion_mnist.model_store import CARD, model_card, model_task, model_version
from fashion_mnist.settings import Settings
from fashion_mnist.system import checksums
from gateway.models import versions
from gateway.models.versions import Version, VersionCounters, Versions, counters_path
from gateway.process import version_check
from gateway.process.control import VERSIONS
from gateway.process.restarts import PER_S, Restarts
from serving.health_check import HealthCheck
from serving.kept_files import KeptFiles
from serving.torchserve import TorchServe

log = logging.getLogger(__name__)

RESTARTS: Final = 5
"""A version's TorchServe that dies more often than this within a minute is not started again."""

TELL_S: Final = 60.0
"""How long a gateway has to load a version, and one that has died to be there again."""

PAUSE_S: Final = 0.05

Build = Callable[[Path, Path], object]
"""Writes the archive for TorchServe of a model store, the first path, to the second one."""

_T = TypeVar("_T")


@dataclasses.dataclass
class _Loaded:
    """What is known of a version."""

    version: Version
    source: Path
    accuracy: float | None
    reference: Reference | None
    since: float
    torchserve: TorchServe | None
    check: HealthCheck | None
    """Of its TorchServe."""
    restarts: Restarts = dataclasses.field(default_factory=Restarts)
    deaths: list[float] = dataclasses.field(default_factory=list)
    given_up: str = ""
    """Why it is not started again."""


class Rollout:
    """The versions of one server."""

    def __init__(
        self, settings: Settings, folder: Path, private_sockets: Sequence[Path], metrics: Sequence[Path], build: Build
    ) -> None:
        """`folder` is the server's own; `private_sockets` and `metrics` are files of its gateways."""
        self._settings = settings
        self._folder = folder
        self._private_sockets = private_sockets
        self._metrics = metrics
        self._build = build
        self._loaded: dict[str, _Loaded] = {}
        self._candidate: _Loaded | None = None
        self._checks: list[HealthCheck] = []
        self._torchserves: list[TorchServe] = []
        """All that there are, also those of versions on their way in or out."""
        self._loading = threading.Lock()
        self._changing = threading.Lock()
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self._files = KeptFiles()
        self._errands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self.wanted = Versions("", ())
        """What gateways are to serve. Replaced as a whole, so that the main thread reads it without a lock."""

    # For the main thread

    def begin(self, model_store: Path, health_image: bytes) -> None:
        """Take the version that the server starts with; nothing is started yet. Raises ServingError, ModelError."""
        self._health_image = health_image
        self.task = model_task(model_store)
        if self._settings.engine == "oip" and importlib.util.find_spec("grpc") is None:
            raise ServingError("engine oip needs grpcio, of the extra oip: install it, or choose another engine")
        # Here, where a message names the file that a person knows.
        names = [] if self._settings.engine == "oip" else graphs(model_store, self._settings.runtime)
        for name in [*names, CARD]:
            checksums.verify(model_store / name)
        card = model_card(model_store)
        try:
            loaded = self._prepare(model_version(model_store), card, model_store)
        except OSError as error:
            raise ServingError(
                f"{self._folder} cannot be written ({error.strerror}): make room there, or set TMPDIR"
            ) from None
        self._loaded[loaded.version.name] = loaded
        self.wanted = Versions(loaded.version.name, (loaded.version,))

    def start(self) -> None:
        """Start the first version's TorchServe, if there is one. Raises ServingError."""
        for loaded in self._loaded.values():
            if loaded.torchserve is not None:
                loaded.torchserve.prepare(functools.partial(self._build, loaded.version.folder))
                loaded.torchserve.start()

    def wait_until_ready(self) -> None:
        """Wait for that. Raises ServingError."""
        for loaded in self._loaded.values():
            if loaded.torchserve is not None:
                loaded.torchserve.wait_until_ready()

    def attend(self, tell: Callable[[str], None]) -> bool:
        """Do what only the main thread may do, and start again what has died; to be called over and over.

        True where the default's TorchServe had died. `tell` is called with what a person should know of the others.
        """
        while not self._errands.empty():
            errand, future = self._errands.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(errand())
                except Exception as error:
                    future.set_exception(error)
        died = False
        for loaded in list(self._loaded.values()):
            if loaded.torchserve is None or loaded.check is None or loaded.given_up:
                continue
            killed = False
            if loaded.torchserve.running() and loaded.check.silent:
                ended = loaded.torchserve.end_what_is_silent()
                tell(f"{ended} of version {loaded.version.name} answers no health check and is replaced")
                loaded.check.restart()
                killed = not loaded.torchserve.running()
            if loaded.torchserve.running():
                continue
            died_now = killed or loaded.torchserve.pid != 0  # or else its next start is due, or failed
            loaded.torchserve.stop(grace_s=0)
            if died_now:
                loaded.restarts.ended()
            name = loaded.version.name
            if name == self.wanted.default:
                died |= died_now
                self._restart(loaded)
                continue
            if died_now:
                now = time.monotonic()
                loaded.deaths = [death for death in loaded.deaths if now - death < PER_S] + [now]
            if len(loaded.deaths) > RESTARTS:
                loaded.given_up = f"its TorchServe died {len(loaded.deaths)} times within a minute"
                tell(f"version {name}: {loaded.given_up} and is not started again; unload it, or load it anew")
            else:
                if died_now:
                    tell(f"the TorchServe of version {name} died and is started again")
                self._restart(loaded)
        return died

    @staticmethod
    def _restart(loaded: _Loaded) -> None:
        """Start a version's TorchServe again, if it is time."""
        if loaded.torchserve is not None and loaded.check is not None and loaded.restarts.due:
            loaded.check.restart()
            loaded.torchserve.start()

    def restore_files(self) -> None:
        """Write those of the versions' files anew that are gone. Raises OSError."""
        self._files.restore()

    def log_end(self) -> str:
        """The end of the log of the default's TorchServe; "" where there is none."""
        loaded = self._loaded.get(self.wanted.default)
        return loaded.torchserve.log_end() if loaded is not None and loaded.torchserve is not None else ""

    def interrupt(self) -> None:
        """Let no change begin, and end those that are under way: the server is about to end."""
        self._closed.set()
        while not self._errands.empty():
            self._errands.get()[1].cancel()
        candidate = self._candidate
        if candidate is not None and candidate.torchserve is not None:
            candidate.torchserve.stop(grace_s=0)

    def close(self) -> None:
        """End every TorchServe."""
        self.interrupt()
        for check in self._checks:
            check.close()
        for torchserve in list(self._torchserves):
            torchserve.stop(grace_s=0)

    # For any thread

    @property
    def reference(self) -> Reference | None:
        """What drift of the default is measured from."""
        loaded = self._loaded.get(self.wanted.default)
        return None if loaded is None else loaded.reference

    @property
    def torchserves(self) -> dict[str, TorchServe]:
        """Those of the versions that are loaded, by version; none with the other engines."""
        loaded = list(self._loaded.items())
        return {version: row.torchserve for version, row in loaded if row.torchserve is not None}

    def listed(self) -> list[dict[str, Any]]:
        """All versions, and how things stand with each."""
        default, candidate, found = self.wanted.default, self._candidate, []
        rows = list(self._loaded.values())
        if candidate is not None and not any(row is candidate for row in rows):
            rows.append(candidate)
        for loaded in rows:
            tallies = [VersionCounters.read(counters_path(path, loaded.version.number)) for path in self._metrics]
            ready = all(counters.ready for counters in tallies)
            reason = loaded.given_up or ("" if ready else "its health check fails now")
            found.append(
                {
                    "version": loaded.version.name,
                    "engine": self._settings.engine,
                    "state": "loading" if loaded is candidate else "failed" if reason else "ready",
                    "reason": "" if loaded is candidate else reason,
                    "default": loaded.version.name == default and loaded is not candidate,
                    "loaded": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(loaded.since)),
                    "requests": sum(counters.requests for counters in tallies),
                    "health_checks": {
                        "passed": sum(counters.checks_passed for counters in tallies),
                        "failed": sum(counters.checks_failed for counters in tallies),
                    },
                    "accuracy": loaded.accuracy,
                    "folder": str(loaded.source),
                }
            )
        return found

    def load(self, folder: Path, *, without_data: bool) -> dict[str, Any]:
        """Load the version in a folder, warm it up and check it; what was found.

        Only then may clients ask for it, and nothing else has changed. Raises VersionError; then nothing has at all.
        """
        if self._settings.engine == "oip":
            raise VersionError(
                "with the oip engine the model is in the server behind: load it there, set FASHION_MNIST_OIP_VERSION"
            )
        if not self._loading.acquire(blocking=False):
            raise VersionError("a version is being loaded already: wait for it")
        started = time.monotonic()
        try:
            card = versions.check_folder(folder, self.task, self._settings.runtime)
            name = card["model_version"]
            if name in self._loaded:
                raise VersionError(
                    f"version {name} is loaded already: export this one with another --version, or unload that one"
                )
            if len(self._loaded) >= self._settings.max_versions:
                raise VersionError(
                    f"{len(self._loaded)} versions are loaded already, {', '.join(self._loaded)}: unload one of them, "
                    "or raise FASHION_MNIST_MAX_VERSIONS"
                )
            held = version_check.held_out(self._settings, without_data=without_data)
            found = self._load(name, card, folder, held)
            log.info("version loaded", extra={"version": name})
            return {"version": name, **found, "seconds": round(time.monotonic() - started, 1)}
        except FashionMNISTError as error:
            self._go_on()  # or else the server's end is the reason
            if isinstance(error, VersionError | Unavailable):
                raise
            raise VersionError(error.message) from None
        except OSError as error:
            raise VersionError(f"{error.filename or folder}: {error.strerror or error}: nothing was loaded") from None
        finally:
            self._loading.release()

    def use(self, name: str) -> None:
        """Make a version the default, in all gateways. Raises NotFound, VersionError."""
        with self._changing:
            version = self._find(name).version
            if name == self.wanted.default:
                return
            # As late as can be: what was right when it was loaded may have died since.
            for private_socket in self._private_sockets:
                version_check.check_health_image(private_socket, version, self.task, self._health_image)
            self._change(dataclasses.replace(self.wanted, default=name))

    def unload(self, name: str) -> None:
        """Unload a version, when what is in flight in it has ended. Raises NotFound, VersionError."""
        with self._changing:
            loaded = self._find(name)
            if name == self.wanted.default:
                raise VersionError(f"version {name} is the default: use another one first")
            self._change(self._without(loaded.version))
            del self._loaded[name]
        self._discard(loaded)

    # What these are made of

    def _find(self, name: str) -> _Loaded:
        try:
            return self._loaded[name]
        except KeyError:
            raise NotFound(f"there is no version {name[:64]!r}: there are {', '.join(self._loaded)}") from None

    def _load(self, name: str, card: dict[str, Any], folder: Path, held: Split | None) -> dict[str, Any]:
        candidate = self._prepare(name, card, folder, open=False)
        version = candidate.version
        try:
            # The folder may have been written to meanwhile.
            if versions.check_folder(version.folder, self.task, self._settings.runtime) != card:
                raise VersionError(f"{folder} changed while it was read: load it again, when nobody writes to it")
            self._candidate = candidate
            if (torchserve := candidate.torchserve) is not None:
                torchserve.prepare(functools.partial(self._build, version.folder))
                self._in_main_thread(torchserve.start)
                torchserve.wait_until_ready()
            with self._changing:
                more = (*self.wanted.versions, version)
                self._change(dataclasses.replace(self.wanted, versions=more), once=True)
            for private_socket in self._private_sockets:
                version_check.check_health_image(private_socket, version, self.task, self._health_image)
            measured = None
            if held is not None:
                measured = version_check.measure(self._private_sockets[0], version, held, self._settings, self._go_on)
                version_check.check_accuracy(name, measured, candidate.accuracy)
            with self._changing:
                candidate.version = dataclasses.replace(version, open=True)
                candidate.since = time.time()
                opened = tuple(
                    candidate.version if each.number == version.number else each for each in self.wanted.versions
                )
                self._change(dataclasses.replace(self.wanted, versions=opened))
                self._loaded[name] = candidate
                self._candidate = None
        except BaseException:
            self._take_back(candidate)
            raise
        return {
            "health_check": "passed",
            "accuracy": measured,
            "images": 0 if held is None else len(held.images),
            "card_accuracy": candidate.accuracy,
        }

    def _prepare(self, name: str, card: dict[str, Any], source: Path, *, open: bool = True) -> _Loaded:
        """Copy a version's files into the server's folder."""
        number = next(self._numbers)
        folder = self._folder / f"v{number}"
        try:
            versions.copy_served_files(source, folder, self.task, self._health_image)
            self._files.keep([folder])
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        torchserve = check = None
        if self._settings.engine == "torchserve":
            torchserve = TorchServe(self._settings, folder, self._folder / f"t{number}")
            self._torchserves.append(torchserve)
            ask = functools.partial(torchserve.check, self._settings.health_check_timeout_s)
            check = HealthCheck(ask, self._settings.health_check_failures)
            self._checks.append(check)
        return _Loaded(
            version=Version(name, number, folder, str(torchserve.folder.path) if torchserve else "", open),
            source=source,
            accuracy=versions.accuracy(card),
            reference=Reference.from_card(card),
            since=time.time(),
            torchserve=torchserve,
            check=check,
        )

    def _take_back(self, candidate: _Loaded) -> None:
        """Unload what did not pass."""
        with self._changing:
            rest = self._without(candidate.version)
            try:
                if rest != self.wanted:
                    self._change(rest)
            except FashionMNISTError as error:
                # With the next change, then.
                log.error("not unloaded yet", extra={"version": candidate.version.name, "reason": error.message})
            finally:
                self.wanted = rest
        self._discard(candidate)
        self._candidate = None

    def _without(self, version: Version) -> Versions:
        rest = tuple(each for each in self.wanted.versions if each.number != version.number)
        return dataclasses.replace(self.wanted, versions=rest)

    def _discard(self, loaded: _Loaded) -> None:
        """End a version's TorchServe, and remove its files."""
        torchserve = loaded.torchserve
        if loaded.check is not None:
            loaded.check.close()
            self._checks.remove(loaded.check)
        if torchserve is not None:
            # Where the server is about to end, `close` does it.
            with contextlib.suppress(FashionMNISTError):
                self._in_main_thread(lambda: torchserve.stop(grace_s=0))
                self._torchserves.remove(torchserve)
            shutil.rmtree(torchserve.folder.path, ignore_errors=True)
        self._files.forget(loaded.version.folder)
        shutil.rmtree(loaded.version.folder, ignore_errors=True)
        for path in self._metrics:
            counters_path(path, loaded.version.number).unlink(missing_ok=True)

    def _change(self, wanted: Versions, *, once: bool = False) -> None:
        """Want something else, and let every gateway know. Where one refuses, all go back to what was.

        `once`: a gateway that dies of it is not asked again.
        """
        before, self.wanted = self.wanted, wanted
        try:
            for private_socket in self._private_sockets:
                self._tell(private_socket, once=once)
        except BaseException:
            self.wanted = before
            for private_socket in self._private_sockets:
                with contextlib.suppress(FashionMNISTError):
                    self._tell(private_socket, once=False)
            raise

    def _tell(self, private_socket: Path, *, once: bool) -> None:
        content = json.dumps(dataclasses.asdict(self.wanted), default=str)
        deadline = time.monotonic() + TELL_S
        # Without TLS, whose certificates would be read first.
        with httpx.Client(
            transport=httpx.HTTPTransport(verify=False, uds=str(private_socket)), timeout=TELL_S
        ) as client:
            while True:
                self._go_on()
                try:
                    response = client.put(f"http://localhost{VERSIONS}", content=content)
                except httpx.TransportError as error:
                    if once and not isinstance(error, httpx.ConnectError):
                        raise VersionError("a gateway ended, or did not answer, while it loaded the version") from None
                    if time.monotonic() > deadline:
                        raise VersionError(f"a gateway could not be told ({type(error).__name__}): try again") from None
                    # It is started again, with what is wanted by now.
                    time.sleep(PAUSE_S)
                    continue
                if response.status_code != httpx.codes.OK:
                    raise VersionError(response.json()["error"]["message"])
                return

    def _in_main_thread(self, errand: Callable[[], _T]) -> _T:
        """Have something done by the main thread. Raises Unavailable where that is about to end."""
        future: Future[_T] = Future()
        self._errands.put((errand, future))
        while not future.done():
            self._go_on()
            wait([future], PAUSE_S)
        try:
            return future.result()
        except CancelledError:
            raise Unavailable("the server is stopping") from None

    def _go_on(self) -> None:
        if self._closed.is_set():
            raise Unavailable("the server is stopping")
