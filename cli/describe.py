"""`fashion-mnist describe`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli import options
from fashion_mnist.data import dataset
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST


def describe(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    figures: Annotated[
        Path | None, typer.Option(help="Draw the filters of both convolutions into this folder.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to draw; by default the released model's.")] = None,
    data: options.Data = None,
) -> None:
    """Show the network: its layers, their arguments with reasons, shapes and parameters; and draw its filters.

    Examples:

    `fashion-mnist describe`

    `fashion-mnist describe --figures filters/`
    """
    # Imported here, because torch takes a second to import and --help does not need it.
    from fashion_mnist import description
    from fashion_mnist.network import Network, load_weights

    console = Console()
    task = dataset.load(options.settings(data).data).task if data else FASHION_MNIST
    described = description.describe(Network(task.geometry, len(task.classes)))
    if as_json:
        print(json.dumps(described, indent=2))
    else:
        for table in _tables(described):
            console.print(table)
    if figures is not None:
        from training import plots

        path = weights or model_store_path(Settings.from_environment()) / "weights.pt"
        network = load_weights(path).network
        for name in ("conv1", "conv2"):
            plots.save(plots.filters(network, name), figures / f"{name}.png")
            Console(stderr=True).print(f"written: {figures / name}.png")


def _tables(described: dict[str, Any]) -> list[Table]:
    arguments = Table("layer", "parameter", "argument", "kind and reason")
    previous = None
    for row in described["arguments"]:
        if previous not in (None, row["layer"]):
            arguments.add_section()
        shown = "" if row["layer"] == previous else row["layer"]
        why = f"{row['kind']}: {row['why']}" if row["why"] else row["kind"]
        arguments.add_row(shown, row["parameter"], row["argument"], why)
        previous = row["layer"]
    steps = Table("step", "shape of one image")
    for row in described["steps"]:
        steps.add_row(row["step"], " x ".join(map(str, row["shape"])))
    parameters = Table("parameter", "shape", "count", show_footer=True)
    parameters.columns[0].footer, parameters.columns[2].footer = "total", f"{described['total']:,}"
    for row in described["parameters"]:
        parameters.add_row(row["name"], " x ".join(map(str, row["shape"])), f"{row['count']:,}")
    return [arguments, steps, parameters]
