"""Run the scenarios one after the other, print a table, and fail where what must hold did not.

python -m tests.hostile                            everything, some 20 minutes
python -m tests.hostile --short                    at most 4 minutes, without limits on latency; part of .ci/run
python -m tests.hostile --only flood --seed 7      the scenarios whose names contain "flood", as seed 7 has them
python -m tests.hostile --requests 100000 --json hunt.json
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.hostile import clients, hunt, machine, mutated, processes
from tests.hostile.hunt import Hunt, Result, Scenario

SCENARIOS: Final[list[Scenario]] = [
    *mutated.SCENARIOS,
    *clients.SCENARIOS,
    *processes.SCENARIOS,
    *machine.SCENARIOS,
]


def main() -> int:
    """Run what the arguments say; the exit status."""
    arguments = _arguments()
    chosen = [each for each in SCENARIOS if arguments.only in each.name and (each.in_short or not arguments.short)]
    console = Console(width=None if sys.stdout.isatty() else 160)
    if arguments.list or not chosen:
        console.print(_table([Result(each.name, each.holds, "", "", 0.0) for each in chosen]))
        return int(not chosen)
    console.print(f"seed {arguments.seed}")
    with (
        tempfile.TemporaryDirectory(prefix="hunt-") as folder,
        Hunt(
            Path(folder),
            seed=arguments.seed,
            requests=arguments.requests or (4_000 if arguments.short else 100_000),
            seconds=arguments.seconds or (1.5 if arguments.short else 8.0),
            timed=not (arguments.short or arguments.untimed),
        ) as running,
    ):
        results = []
        for scenario in chosen:
            result = hunt.run(running, scenario)
            console.print(f"{result.verdict:8} {result.name} ({result.seconds} s) {result.reason}", markup=False)
            results.append(result)
        text = hunt.report(running, results)
    console.print(_table(results))
    if arguments.json:
        arguments.json.write_text(text)
    return int(any(result.verdict == "failed" for result in results))


def _table(results: list[Result]) -> Table:
    table = Table("scenario", "what must hold", "verdict", "s", "figures")
    for each in results:
        figures = ", ".join(f"{name} {value}" for name, value in each.figures.items())
        table.add_row(each.name, each.holds, each.verdict, f"{each.seconds:.1f}", figures)
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--requests", type=int, help="mutated requests altogether (default: 100000; 4000 if short)")
    parser.add_argument("--seconds", type=float, help="how long each flood lasts (default: 8; 1.5 if short)")
    parser.add_argument("--short", action="store_true", help="leave out what takes long, and limits on latency")
    parser.add_argument("--untimed", action="store_true", help="no limits on latency: for a machine that others use")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose names contain this")
    parser.add_argument("--list", action="store_true", help="print the scenarios and what must hold in each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    return parser.parse_args()
