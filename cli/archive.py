"""`fashion-mnist archive`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import extras
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings


def archive(
    output: Annotated[
        Path | None, typer.Option(help="File to write; by default fashion_mnist.mar in the model store.")
    ] = None,
) -> None:
    """Pack the released model, the handler and the settings into one archive for any TorchServe.

    TorchServe's Python needs numpy, onnxruntime, Pillow and kornia-rs, but not this package.

    Examples:

        fashion-mnist archive

        fashion-mnist archive --output /srv/models/my_model.mar

        FASHION_MNIST_RUNTIME=torchscript FASHION_MNIST_WORKERS=2 fashion-mnist archive
    """
    extras.require("model_archiver")
    console = Console()
    with console.status("checking the model and packing it"):
        from export.archive import build, contents

        settings = Settings.from_environment()
        path = build(settings, model_store_path(settings), output)
    table = Table("file")
    table.add_column("bytes", justify="right")
    table.add_column("packed", justify="right")
    for entry in contents(path):
        table.add_row(entry.filename, f"{entry.file_size:,}", f"{entry.compress_size:,}")
    console.print(table)
    console.print(f"written to {escape(str(path))} ({path.stat().st_size:,} bytes)", soft_wrap=True)
