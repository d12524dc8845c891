"""Processes that die or stand still under load."""

import signal
import time
from collections.abc import Callable
from typing import Final

import psutil

from serving import processes
from tests.hostile.hunt import Hunt, Scenario
from tests.hostile.neighbour import neighbour
from tests.support.command import ServeCommand, gone, wait_until

Victim = Callable[[ServeCommand], psutil.Process]

VICTIMS: Final[dict[str, Victim]] = {
    "a gateway": ServeCommand.gateway,
    "TorchServe's JVM": ServeCommand.jvm,
    "TorchServe's worker": ServeCommand.worker,
}


def struck(number: signal.Signals, names: list[str]) -> Callable[[Hunt], None]:
    """Each of these processes gets a signal, one after the other, while images are sent."""

    def run(hunt: Hunt) -> None:
        with hunt.serving("--engine", "torchserve", FASHION_MNIST_GATEWAYS="2") as command:
            for name in names:
                process = VICTIMS[name](command)
                with neighbour(command.url, hunt.images) as found:
                    process.send_signal(number)
                    took = wait_until(lambda process=process: not processes.alive(process), f"{name} replaced", 60)  # type: ignore[misc]
                    hunt.whole_again(command.url)
                hunt.figures |= {f"{name}: {key}": value for key, value in found.figures().items()}
                assert not found.counts["wrong"], "a wrong label"
                assert not found.counts["500"], "a 500"
                assert took < hunt.whole_again_s, f"{name} was replaced after {took:.1f} s"
                assert found.longest_gap_s < hunt.whole_again_s, f"no answer for {found.longest_gap_s} s"

    return run


def supervisor_killed(hunt: Hunt) -> None:
    """Nothing that it started outlives it."""
    with hunt.serving("--engine", "torchserve") as command:
        family = command.family()
        command.process.kill()
        hunt.figures["gone_s"] = round(wait_until(lambda: gone(family), "all processes gone", hunt.whole_again_s), 2)


def ended(hunt: Hunt) -> None:
    """Each signal that ends the server lets open requests be answered."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with hunt.serving("--engine", "embedded") as command:
            with neighbour(command.url, hunt.images) as found:
                wait_until(lambda: command.process.poll() is None, "load", 5)
                assert command.end(number) == 0, f"{number.name}: {command.process.returncode}"
            bad = {name: count for name, count in found.counts.items() if name not in ("right", "refused")}
            # The one request that it sends at that moment over a connection which is being closed.
            assert bad in ({}, {"lost": 1}), f"{number.name}: {bad}"
            assert not [each for each in command.said().splitlines() if "Traceback" in each]


def harmless_signals(hunt: Hunt) -> None:
    """Signals that mean nothing to a server change nothing."""
    with hunt.beside(hunt.server):
        for process in hunt.server.family():
            for number in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT, signal.SIGPIPE):
                process.send_signal(number)
        time.sleep(1)


SCENARIOS: Final = [
    Scenario(
        "processes killed under load",
        "replaced and whole again within 10 s; no wrong label, no 500",
        struck(signal.SIGKILL, [*VICTIMS]),
    ),
    Scenario(
        "processes stopped under load",
        "found by their silence, replaced and whole again within 10 s; no wrong label, no 500",
        struck(signal.SIGSTOP, [*VICTIMS]),
    ),
    Scenario("supervisor killed", "nothing that it started outlives it", supervisor_killed),
    Scenario("signals that end", "open requests are answered, exit status 0", ended),
    Scenario("signals that mean nothing", "nothing changes", harmless_signals),
]
