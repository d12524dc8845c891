"""`fashion-mnist compare`."""

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fashion_mnist.data import dataset
from fashion_mnist.settings import Settings


def compare(
    one: Annotated[Path, typer.Argument(help="A finished run.")],
    other: Annotated[Path, typer.Argument(help="Another finished run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test whether two runs differ significantly: on the test images, and compared with the effect of the seed.

    Runs of the same recipes with other seeds are read from the folders beside the two.

    Example: `fashion-mnist compare runs/quick-0 runs/release-0`
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with console.status("comparing"):
        from training import comparison

        settings = Settings.from_environment()
        found = comparison.compare(one, other, dataset.load(settings.data).test)
        significant = comparison.SIGNIFICANT
    if as_json:
        print(json.dumps(found, indent=2))
        return
    accuracies, only, chance = (found["runs"][key] for key in ("accuracies", "only_right", "chance"))
    console.print(
        f"accuracy on the test images: {one} {accuracies[0]:.2%}, {other} {accuracies[1]:.2%}; {only[0]} images are "
        f"correct only in the first, {only[1]} only in the second: "
        f"{_verdict(chance, significant, 'the choice of images')}"
    )
    console.print(_seeds(found["seeds"], significant))


def _seeds(seeds: dict[str, Any], significant: float) -> str:
    described = [
        f"{recipe} {statistics.mean(values):.2%} over {len(values)} seed{'s' * (len(values) > 1)}"
        + (f" (standard deviation {statistics.stdev(values):.2%})" if len(values) > 1 else "")
        for recipe, values in zip(seeds["recipes"], seeds["accuracies"], strict=True)
    ]
    if seeds["same_recipe"]:
        return f"both are {described[0]}: they differ only by the seed"
    if seeds["chance"] is None:
        return f"{described[0]}, {described[1]}: the noise of the seeds is unknown; train each with two or more seeds"
    return f"{described[0]}, {described[1]}: {_verdict(seeds['chance'], significant, 'the seeds')}"


def _verdict(chance: float, significant: float, source: str) -> str:
    within = "beyond" if chance < significant else "within"
    return f"{within} the noise of {source} (p = {chance:.2g})"
