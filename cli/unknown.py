"""`fashion-mnist unknown`."""

import json
import math
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.tables import print_table
from fashion_mnist.data import dataset
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_store_path, unknown_threshold
from fashion_mnist.settings import Settings


def unknown(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how well the released model separates garments from digits, noise, textures, and rotated or cut garments.

    For each kind, print the area under the ROC curve of the answers' OOD score, of 1 - max probability, and of the
    logits' energy; and the share of images that are flagged at the card's threshold.

    Example: `fashion-mnist unknown`
    """
    settings = Settings.from_environment()
    store = model_store_path(settings)
    threshold = unknown_threshold(store)
    if threshold == math.inf:
        raise UsageError(f"the card in {store} has no threshold: export weights that this version trained")
    with Console(stderr=True).status("drawing other images"):
        from fashion_mnist.network import load_weights
        from training.unknown import scores_to_compare, separation

        images = dataset.load(settings.data)
        classifier = load_weights(store / "weights.pt")
        rows = separation(lambda shown: scores_to_compare(classifier, shown), images.test, threshold)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        names = list(rows[-1]["auroc"])
        head = ["images", *(f"AUROC by {name}" for name in names), "flagged"]
        print_table(head, [[row["kind"], *_cells(row, names)] for row in rows])


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    return [*(f"{row['auroc'][name]:.3f}" if row["auroc"] else "" for name in names), f"{row['flagged']:.1%}"]
