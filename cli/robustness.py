"""`fashion-mnist robustness`."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cli.report import markdown
from fashion_mnist import dataset
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_store_path, unknown_threshold
from fashion_mnist.settings import Settings


class SplitName(StrEnum):
    """Which images are changed or photographed."""

    VALIDATION = "validation"
    TEST = "test"


def robustness(
    models: Annotated[
        list[Path] | None, typer.Argument(help="weights.pt, TorchScript or ONNX; by default the released ONNX.")
    ] = None,
    photographs: Annotated[bool, typer.Option(help="Photographs rendered from the images, prepared or not.")] = False,
    images: Annotated[int, typer.Option(min=1, max=10_000, help="How many of each kind of photographs.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the photographs.")] = 0,
    split: Annotated[SplitName, typer.Option(help="The images that are photographed.")] = SplitName.TEST,
    pictures: Annotated[
        Path | None, typer.Option(help="Write pictures of the steps of preparation into this folder, and no table.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how often models are right on test images that are moved, turned, noisy, blurred, faded, inverted.

    With `--photographs`: how often one model is right on photographs of garments, and how many it marks as unknown, by
    how they are prepared.

    Examples:

    `fashion-mnist robustness model_store/model.onnx runs/course-0/weights.pt`

    `fashion-mnist robustness --photographs --images 200 --split validation`
    """
    settings = Settings.from_environment()
    paths = models or [model_store_path(settings) / "model.onnx"]
    if pictures:
        from training.photograph_pictures import write_pictures

        for path in write_pictures(dataset.load(settings.data).test.images[seed], seed, pictures):
            print(path)
        return
    if photographs:
        if len(paths) > 1:
            raise UsageError("--photographs takes one model: name one")
        rows = _of_photographs(settings, paths[0], images, seed, split)
        if as_json:
            print(json.dumps(rows, indent=2))
        else:
            _print_table(_photograph_table(rows))
        return
    with Console(stderr=True).status("changing images"):
        from training import robustness as changes
        from training.evaluation import open_file

        rows = changes.robustness({str(path): open_file(path) for path in paths}, dataset.load(settings.data).test)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print(
            markdown(
                [
                    ["change", "strength", *map(str, paths)],
                    *(
                        [row["change"], row["strength"], *(f"{value:.2%}" for value in row["accuracies"].values())]
                        for row in rows
                    ),
                ]
            )
        )


def _of_photographs(settings: Settings, path: Path, images: int, seed: int, split: SplitName) -> list[dict[str, Any]]:
    from training import photograph_evaluation as evaluation
    from training import runs
    from training.evaluation import open_file

    data = dataset.load(settings.data)
    chosen = data.test if split is SplitName.TEST else runs.split(data.train)[1]
    threshold = unknown_threshold(model_store_path(settings))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photographs", total=evaluation.ROWS)
        rows = []
        for row in evaluation.evaluate(open_file(path), chosen, threshold, images, seed):
            rows.append(row)
            progress.update(task, advance=1, description=row["kind"])
    return rows


def _photograph_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    modes = list(rows[-1]["accuracies"])
    head = ["photographs", "images", "ceiling", *modes, *(f"unknown, {mode}" for mode in modes)]
    table = [head]
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        table += [_photograph_row(row, modes) for row in members]
        if all("ceiling" in row for row in members):
            table.append(_photograph_row(_mean(members) | {"kind": f"**mean, {group}**"}, modes))
    return table


def _photograph_row(row: dict[str, Any], modes: list[str]) -> list[str]:
    figures = [row.get("ceiling"), *(row["accuracies"].get(mode) for mode in modes)]
    figures += [row["unknown"].get(mode) for mode in modes]
    return [row["kind"], str(row["images"]), *("" if value is None else f"{value:.1%}" for value in figures)]


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": sum(row["images"] for row in rows),
        "ceiling": sum(row["ceiling"] for row in rows) / len(rows),
        **{
            name: {mode: sum(row[name][mode] for row in rows) / len(rows) for mode in rows[0][name]}
            for name in ("accuracies", "unknown")
        },
    }


def _print_table(rows: list[list[str]]) -> None:
    """A table for people on a terminal, Markdown for all else."""
    if not sys.stdout.isatty():
        print(markdown(rows))
        return
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
