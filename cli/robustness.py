"""`fashion-mnist robustness`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.report import markdown
from fashion_mnist import dataset
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings


def robustness(
    models: Annotated[
        list[Path] | None, typer.Argument(help="weights.pt, TorchScript or ONNX; by default the released ONNX.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how often models are right on test images that are moved, turned, noisy, blurred, faded, inverted.

    Example: `fashion-mnist robustness model_store/model.onnx runs/course-0/weights.pt`
    """
    settings = Settings.from_environment()
    paths = models or [model_store_path(settings) / "model.onnx"]
    console = Console(stderr=True)
    with console.status("changing images"):
        from training import robustness as changes
        from training.evaluation import open_file

        images = dataset.load(settings.data)
        rows = changes.robustness({str(path): open_file(path) for path in paths}, images.test)
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
