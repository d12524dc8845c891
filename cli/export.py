"""`fashion-mnist export`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from cli import options
from cli.robustness import cached_corruptions, corruptions
from cli.tables import print_table
from fashion_mnist.data.dataset import load
from fashion_mnist.errors import FashionMNISTError, UsageError
from fashion_mnist.model_store import model_card, model_store_path
from fashion_mnist.task import FASHION_MNIST

DIGITS = 16
"""Of a checksum on a terminal; SHA256SUMS has them whole."""


def export(
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights, such as a run's weights.pt; by default the store's own.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Model store to write; by default the repository's.")] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Version in answers; by default the next after the store's, or 1.0."),
    ] = None,
    views: Annotated[
        str, typer.Option(help="Augmented views over which the graphs average: one, mirror or mirror-and-pixel.")
    ] = "one",
    robustness: Annotated[
        bool | None,
        typer.Option(
            help="Measure accuracy on corrupted images for the card (`fashion-mnist robustness`), and the share of "
            "images without a garment that are flagged (`fashion-mnist unknown`); by default if the corrupted images "
            "are cached, or if a model with such figures would be replaced."
        ),
    ] = None,
    accept_less_robust: Annotated[
        bool, typer.Option("--accept-less-robust", help="Export a model that is less robust than the store's.")
    ] = False,
    data: options.Data = None,
    network: options.Network = "",
) -> None:
    """Write the graphs, samples, mistakes, model card and checksums, after checking them on every test image.

    Nothing is replaced if a graph is invalid or differs from the network on any image, or if the model's accuracy on
    corrupted images is a percentage point below that of the store's.

    Examples:

        fashion-mnist export

        fashion-mnist export --weights runs/quick-0/weights.pt --version 1.1

        fashion-mnist export --data digits.npz --weights runs/digits-quick-0/weights.pt --output digits_store
    """
    console = Console()
    settings = options.settings(data)
    images = load(settings.data)
    store = output or model_store_path(settings)
    if images.task != FASHION_MNIST:
        if robustness:
            raise UsageError("--robustness measures on Fashion-MNIST's test images only: leave it out")
        robustness = False
    if robustness is None:
        robustness = _has_robustness(store) or cached_corruptions(images.test.images) is not None
        if not robustness:
            console.print("accuracy on corrupted images: not measured; use --robustness (the first time, half an hour)")
    corrupted = corruptions(images.test.images) if robustness else None
    with console.status("starting PyTorch and ONNX Runtime") as status:
        # Imported here, because these imports take seconds.
        from export.release import WEIGHTS, release
        from fashion_mnist.ood import unknown_scores
        from training.robustness import robustness as figures
        from training.unknown import separation

        model_store = model_store_path(settings)
        made = release(
            model_store / WEIGHTS if weights is None else weights,
            store,
            images,
            version=version,
            views=views,
            network_class=options.network_class(network),
            robustness=None
            if corrupted is None
            else lambda model, threshold: figures(model, images.test, corrupted, threshold=threshold),
            unknown=None
            if corrupted is None
            else lambda model, threshold: separation(
                lambda shown: {"score": np.array(unknown_scores(model(shown)))}, images.test, threshold
            ),
            accept_less_robust=accept_less_robust,
            progress=status.update,
        )
    console.print("the engines' probabilities compared with the network's in PyTorch:")
    _print_parity(made.card["parity"])
    _print_files(made.card["files"])
    evaluation = made.card["evaluation"]
    console.print(
        f"version {made.card['model_version']}: accuracy {evaluation['accuracy']:.2%} on {evaluation['images']:,} test "
        f"images (standard error {evaluation['standard_error']:.2%})"
    )
    console.print(f"written to {made.folder}", soft_wrap=True)


def _has_robustness(store: Path) -> bool:
    """Whether a model store's card has the accuracy on corrupted images."""
    try:
        return bool(model_card(store).get("robustness"))
    except FashionMNISTError:
        return False


def _print_parity(parity: dict[str, Any]) -> None:
    rows = []
    for engine, row in parity["engines"].items():
        largest, allowed = f"{row['largest_difference']:.1e}", f"{parity['limit']:.0e}"
        rows.append([engine, f"{row['images']:,}", str(row["labels_that_differ"]), largest, allowed])
    print_table(["engine", "images", "labels that differ", "largest difference", "allowed"], rows)


def _print_files(files: dict[str, Any]) -> None:
    digits = DIGITS if sys.stdout.isatty() else None
    rows = [[name, f"{row['bytes']:,}", row["sha256"][:digits]] for name, row in files.items()]
    print_table(["file", "bytes", "sha256"], rows)
