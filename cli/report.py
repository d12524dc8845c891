"""`fashion-mnist report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import options
from cli.tables import print_table
from fashion_mnist.data import dataset
from fashion_mnist.system import atomic


def report(
    run: Annotated[Path | None, typer.Argument(help="A run's folder; by default list all runs.")] = None,
    output: Annotated[Path | None, typer.Option(help="The page to write; by default report.html in the run.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs to list.")] = Path("runs"),
    data: options.Data = None,
    network: options.Network = "",
) -> None:
    """Write a run's page (curves, confusion, reliability, hardest images, filters), or print a table of all runs.

    The page is a single, self-contained HTML file. The table has the mean and standard deviation over the seeds of each
    recipe.

    Examples:

    `fashion-mnist report`

    `fashion-mnist report runs/quick-0`
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    with console.status("reading"):
        from training import report as reports

        if run is None:
            rows = reports.recipe_rows(reports.finished(runs))
            if not rows:
                console.print(f"{runs} has no finished runs: train some with `fashion-mnist train`")
                raise typer.Exit(1)
            print_table(list(rows[0]), [list(map(str, row.values())) for row in rows])
            return
        images = dataset.load(options.settings(data).data)
        page = reports.page(run, images, options.network_class(network))
    output = output or run / "report.html"
    atomic.write_text(output, page)
    console.print(f"written: {output}")
