"""`fashion-mnist evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli import options
from cli.tables import print_table
from fashion_mnist.data import dataset
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_store_path


def evaluate(
    model: Annotated[
        Path | None, typer.Argument(help="weights.pt, TorchScript or ONNX; by default the released ONNX.")
    ] = None,
    split: Annotated[str, typer.Option(help="test or train.")] = "test",
    figure: Annotated[Path | None, typer.Option(help="Draw the confusion matrix into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: options.Data = None,
    network: options.Network = "",
) -> None:
    """Evaluate a model: accuracy with its standard error, calibration, and the metrics of each class.

    Examples:

    `fashion-mnist evaluate`

    `fashion-mnist evaluate runs/quick-0/weights.pt --figure confusion.png`
    """
    if split not in ("test", "train"):
        raise UsageError(f"split is {split!r}: choose test or train")
    settings = options.settings(data)
    path = model or model_store_path(settings) / "model.onnx"
    console = Console(soft_wrap=True)
    with console.status(f"evaluating {escape(str(path))}"):
        from training.evaluation import evaluate_file

        images = dataset.load(settings.data)
        figures = evaluate_file(
            path, images, split_name=split, device=device, network_class=options.network_class(network)
        )
        if figure is not None:
            from training import plots

            plots.save(plots.confusion_matrix(figures["confusion_matrix"], images.task.classes), figure)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        console.print(
            f"{path}: accuracy {figures['accuracy']:.2%} on {figures['images']:,} {figures['split']} images "
            f"(standard error {figures['standard_error']:.2%}), expected calibration error "
            f"{figures['calibration']['expected_error']:.4f}",
            markup=False,
            highlight=False,
        )
        print_table(["class", "images", "precision", "recall", "F1"], _rows(figures))


def _rows(figures: dict[str, Any]) -> list[list[str]]:
    return [
        [name, str(row["images"]), *(f"{row[key]:.1%}" for key in ("precision", "recall", "f1"))]
        for name, row in figures["classes"].items()
    ]
