"""The photographs of `fashion-mnist robustness --photographs`."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from cli.tables import print_table
from fashion_mnist.data import dataset
from fashion_mnist.model_store import model_store_path, unknown_threshold
from fashion_mnist.settings import Settings


class SplitName(StrEnum):
    """The images that are rendered as photographs."""

    VALIDATION = "validation"
    TEST = "test"


def evaluate(settings: Settings, path: Path, images: int, seed: int, split: SplitName) -> list[dict[str, Any]]:
    """Evaluate a model on photographs of each kind (`training.photograph_evaluation`), with a progress bar."""
    from training import photograph_evaluation as evaluation
    from training import runs
    from training.evaluation import open_file

    data = dataset.load(settings.data)
    chosen = data.test if split is SplitName.TEST else runs.split(data.train)[1]
    threshold = unknown_threshold(model_store_path(settings))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photographs", total=evaluation.ROWS)
        rows = []
        for row in evaluation.evaluate(open_file(path, data.task), chosen, threshold, images, seed):
            rows.append(row)
            progress.update(task, advance=1, description=row["kind"])
    return rows


def print_rows(found: list[dict[str, Any]]) -> None:
    """Print the result of `evaluate`."""
    head, *rows = _table(found)
    print_table(head, rows)


def _table(rows: list[dict[str, Any]]) -> list[list[str]]:
    modes = list(rows[-1]["accuracies"])
    head = ["photographs", "images", "ceiling", *modes, *(f"unknown, {mode}" for mode in modes)]
    table = [head]
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        table += [_row(row, modes) for row in members]
        if all("ceiling" in row for row in members):
            table.append(_row(_mean(members) | {"kind": f"**mean, {group}**"}, modes))
    return table


def _row(row: dict[str, Any], modes: list[str]) -> list[str]:
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
