"""What every scenario has at hand, what must hold in each, and how what came of them is printed and kept."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from fashion_mnist.classes import CLASSES
from fashion_mnist.data import dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from gateway.observability import loop_watchdog
from tests.hostile.neighbour import Images, Outcome, ask, neighbour
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.http import connected, request

P99_RATIO: Final = 10.0
P99_MS: Final = 50.0
WHOLE_AGAIN_S: Final = 10.0
ANSWERS_IN_A_ROW: Final = 50
FLAT_BYTES: Final = 64 * 2**20
"""How much more memory a gateway may hold after an abuse than before."""
ALONE_S: Final = 4.0
"""How long the well-behaved client is measured without anybody beside it."""


class Skipped(Exception):
    """A scenario cannot run here; the message says what it lacks."""


@dataclass(frozen=True)
class Scenario:
    """One thing that clients or machines do, and what must hold meanwhile and afterwards."""

    name: str
    holds: str
    run: Callable[["Hunt"], None]
    in_short: bool = True
    """Whether the short form has it."""


@dataclass
class Result:
    """What came of a scenario."""

    name: str
    holds: str
    verdict: str
    """held, failed or skipped"""
    reason: str
    seconds: float
    figures: dict[str, object] = field(default_factory=dict)


class Hunt:
    """The budget, the seed and the servers of one run, and the figures of the scenario that runs now."""

    def __init__(self, folder: Path, *, seed: int, requests: int, seconds: float, timed: bool) -> None:
        """`requests` is how many mutated ones are sent altogether, `seconds` how long a flood lasts; see `timed`."""
        self.seed, self.requests, self.seconds = seed, requests, seconds
        self.timed = timed
        """Whether latencies are held against their limits."""
        self.whole_again_s = WHOLE_AGAIN_S if timed else 6 * WHOLE_AGAIN_S
        """How long anything may take to be as it was."""
        self.folder = folder
        self.figures: dict[str, object] = {}
        self._servers = ExitStack()
        self._alone: dict[str, float] = {}
        self._count = 0

    def __enter__(self) -> "Hunt":
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    @cached_property
    def server(self) -> ServeCommand:
        """The embedded engine behind one gateway, shared by all scenarios that only send to it."""
        watchdog = "on" if self.timed else "off"
        return self._servers.enter_context(self.serving("--engine", "embedded", FASHION_MNIST_LOOP_WATCHDOG=watchdog))

    @cached_property
    def images(self) -> Images:
        """Real images, and the labels that the released model gives them."""
        pixels = dataset.load().test.images[:200]
        engine = open_engine(model_store_path(Settings()), "onnx", "cpu")
        labels = [CLASSES[index] for index in engine.predict(pixels).argmax(axis=1)]
        return Images([image.tobytes() for image in pixels], labels)

    def random(self, name: str) -> random.Random:
        """Chance that is the same in each run with this seed."""
        return random.Random(f"{self.seed} {name}")

    def new_folder(self) -> Path:
        """A folder for one server or program."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        return folder

    @contextmanager
    def serving(self, *arguments: str, **environment: str) -> Iterator[ServeCommand]:
        """`fashion-mnist serve`, ready."""
        with serve_command(self.new_folder(), *arguments, **environment) as command:
            wait_until(lambda: command.times_ready() or command.process.poll() is not None, "ready")
            assert command.process.poll() is None, command.said()
            yield command

    @contextmanager
    def beside(self, command: ServeCommand, url: str = "") -> Iterator[None]:
        """The block is what one abuser does; whoever behaves well must not notice, nor must memory or log."""
        url = url or command.url
        if self.timed and url not in self._alone:
            with neighbour(url, self.images) as alone:
                time.sleep(ALONE_S)
            self._alone[url] = alone.p99_ms
        gateways, log_bytes = command.gateways(), len(command.said())
        memory = {gateway.pid: gateway.memory_info().rss for gateway in gateways}
        with neighbour(url, self.images) as found:
            yield
        self.figures |= found.figures()
        self._hold_for(found)
        if self.timed:
            limit = min(P99_MS, P99_RATIO * self._alone[url])
            self.figures["neighbour_p99_alone_ms"] = round(self._alone[url], 2)
            assert found.p99_ms <= limit, f"p99 beside it {found.p99_ms:.1f} ms, the limit is {limit:.1f} ms"
        self.whole_again(url)
        assert {gateway.pid for gateway in command.gateways()} == set(memory), "a gateway died"
        for gateway in gateways:
            wait_until(
                lambda gateway=gateway: gateway.memory_info().rss - memory[gateway.pid] < FLAT_BYTES,  # type: ignore[misc]
                "memory flat",
                self.whole_again_s,
            )
        hold_log(command.said()[log_bytes:])

    def _hold_for(self, found: Outcome) -> None:
        answered = found.counts["right"]
        bad = {name: count for name, count in found.counts.items() if name not in ("right", "429")}
        assert not bad, f"a well-behaved client beside it got {bad}"
        assert answered > 0.99 * found.counts.total(), f"a well-behaved client was refused: {dict(found.counts)}"

    def whole_again(self, url: str) -> None:
        """Fails where not many requests in a row are answered rightly in time."""
        deadline, in_a_row, last = time.monotonic() + self.whole_again_s, 0, ""
        while in_a_row < ANSWERS_IN_A_ROW:
            place = in_a_row % len(self.images.labels)
            try:
                with connected(url) as connection:
                    last, *_ = ask(connection, request(self.images.contents[place]), self.images.labels[place])
            except OSError as error:
                last = str(error)
            assert last != "wrong", "a wrong label"
            in_a_row = in_a_row + 1 if last == "right" else 0
            assert time.monotonic() < deadline, f"not whole again within {self.whole_again_s:.0f} s: {last}"
            if not in_a_row:
                time.sleep(0.05)


def hold_log(text: str) -> None:
    """Fails where a line of the log is none of ours, or says that something of ours failed."""
    for line in text.splitlines():
        assert loop_watchdog.MESSAGE not in line, f"the watchdog: {line[:300]}"
        if line.startswith(("ready: ", "  curl ", "stopping", "a gateway", "TorchServe")):
            continue
        try:
            level = json.loads(line)["level"]
        except (ValueError, KeyError, TypeError):
            raise AssertionError(f"a raw line in the log: {line[:300]}") from None
        assert level not in ("ERROR", "CRITICAL"), f"an error in the log: {line[:1000]}"


def run(hunt: Hunt, scenario: Scenario) -> Result:
    """Run one scenario."""
    hunt.figures = {}
    started = time.monotonic()
    verdict, reason = "held", ""
    try:
        scenario.run(hunt)
    except Skipped as error:
        verdict, reason = "skipped", str(error)
    # Whatever a scenario comes upon that it did not expect is a finding, and the next ones are to run.
    except Exception as error:
        verdict, reason = "failed", f"{type(error).__name__}: {error}"
    return Result(
        scenario.name, scenario.holds, verdict, reason, round(time.monotonic() - started, 1), dict(hunt.figures)
    )


def report(hunt: Hunt, results: list[Result]) -> str:
    """The JSON of a run."""
    return json.dumps({"seed": hunt.seed, "timed": hunt.timed, "results": [asdict(each) for each in results]}, indent=2)
