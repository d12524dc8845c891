"""Whether this service is still as many times faster than others as it must be: for CI, in less than a minute.

Times differ from machine to machine and from minute to minute; ratios within one run differ less. Each server is loaded
in turn for a second, over and over, so that whatever else the machine does falls on all of them; what counts is the
median of the ratios of neighbours in time. The bounds are about half of what a quiet machine shows.
"""

import contextlib
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import load, servers
from benchmarks.load import Bodies, RunFailed
from benchmarks.peers import kinds
from benchmarks.peers.kinds import Kind
from benchmarks.servers import Server
from benchmarks.stock import stock_torchserve
from fashion_mnist.data import dataset
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings

CONNECTIONS: Final = 64
TURNS: Final = 5
SECONDS: Final = 1
BODIES: Final = 64


@dataclass(frozen=True)
class Bound:
    """How many times the requests of another server one of ours must at least answer, both sent what suits them."""

    ours: str
    ours_sent: Kind
    other: str
    other_sent: Kind
    at_least: float


BOUNDS: Final = (
    Bound("embedded engine", kinds.RAW, "FastAPI, one thread", kinds.RAW, 2.0),
    Bound("through TorchServe", kinds.PNG, "TorchServe as shipped, one thread", kinds.PNG, 3.0),
)


def run() -> list[float]:
    """Measure and print; the ratios, in the order of BOUNDS. Raises RunFailed where one is too low twice."""
    load.require_wrk()
    console = Console(soft_wrap=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="fm-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        images = dataset.load(Settings.from_environment().data).test.images[:BODIES]
        bodies = {
            kind: Bodies.write(folder / str(place), [kind.write(image) for image in images], kind.content_type)
            for place, kind in enumerate((kinds.RAW, kinds.PNG))
        }
        running = _start(folder, stack, images[0])
        ratios = []
        for bound in BOUNDS:
            ratio = _ratio(bound, running, bodies)
            if ratio < bound.at_least:
                console.print(f"{_said(bound, ratio)}: too low, once more")
                ratio = _ratio(bound, running, bodies)
            console.print(_said(bound, ratio))
            if ratio < bound.at_least:
                raise RunFailed(f"{_said(bound, ratio)}, and that was too low before too")
            ratios.append(ratio)
    return ratios


def _start(folder: Path, stack: contextlib.ExitStack, image: NDArray[np.uint8]) -> dict[str, Server]:
    weights = model_store_path(Settings.from_environment()) / "weights.pt"
    starting = {
        "TorchServe as shipped, one thread": stock_torchserve(weights, folder / "stock", image, threads=1),
        "through TorchServe": servers.fashion_mnist(folder / "front", "torchserve"),
        "embedded engine": servers.fashion_mnist(folder / "embedded", "embedded"),
        # One process, as the embedded engine is: two of them have both cores, and the load generator's share decides.
        # It is the plain application that `bench` measures, not the tuned one of `bench peers`.
        "FastAPI, one thread": servers.fastapi(folder / "fastapi", tuned=True),
    }
    return {name: stack.enter_context(server) for name, server in starting.items()}


def _ratio(bound: Bound, running: dict[str, Server], bodies: dict[Kind, Bodies]) -> float:
    """The median over the turns, after one that is not counted."""
    ratios = []
    for _ in range(TURNS + 1):
        rates = [
            load.run(running[name].url, bodies[kind], connections=CONNECTIONS, seconds=SECONDS).per_second
            for name, kind in ((bound.ours, bound.ours_sent), (bound.other, bound.other_sent))
        ]
        ratios.append(rates[0] / rates[1])
    return statistics.median(ratios[1:])


def _said(bound: Bound, ratio: float) -> str:
    return f"{bound.ours}, {ratio:.2f} times {bound.other}; at least {bound.at_least:g}"
