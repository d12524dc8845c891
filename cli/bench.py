"""`fashion-mnist bench`."""

from pathlib import Path
from typing import Annotated

import typer


def bench(
    output: Annotated[Path, typer.Option(help="Folder for the results as JSON and Markdown.")] = Path(
        "benchmarks/results"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="A short run that shows that it works, not what is true.")
    ] = False,
) -> None:
    """Measure this service beside TorchServe as shipped, interleaved on this machine, every label checked.

    Needs `wrk` (apt-get install wrk) and some ten minutes on an otherwise idle machine.

    Example: `fashion-mnist bench --quick`
    """
    from benchmarks.torchserve import run

    run(output, quick=quick)
