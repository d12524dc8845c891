"""`fashion-mnist errors`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fashion_mnist.data import dataset
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic


def errors(
    model: Annotated[
        Path | None, typer.Argument(help="weights.pt, TorchScript or ONNX; by default the released ONNX.")
    ] = None,
    other: Annotated[Path | None, typer.Option(help="A second model to compare.")] = None,
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("errors.html"),
) -> None:
    """Write a page that shows where a model errs: confusions, hardest images, suspected label errors, coverage.

    The page is a single, self-contained HTML file.

    Examples:

    `fashion-mnist errors`

    `fashion-mnist errors runs/release-0/weights.pt --other model_store/model.onnx`
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    with console.status("evaluating"):
        from training.errors_page import errors_page
        from training.evaluation import open_file

        settings = Settings.from_environment()
        images = dataset.load(settings.data)
        paths = [model or model_store_path(settings) / "model.onnx", *([other] if other else [])]
        page = errors_page(
            images.test,
            {str(path): open_file(path, images.task)(images.test.images) for path in paths},
            images.task.classes,
        )
    atomic.write_text(output, page)
    console.print(f"written: {output}")
