"""`fashion-mnist robustness`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.photographs import SplitName, evaluate, print_rows
from cli.tables import print_table
from fashion_mnist.data import dataset
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings

if TYPE_CHECKING:
    # Only for types: --help does not need them.
    import numpy as np
    from numpy.typing import NDArray


def robustness(
    models: Annotated[
        list[Path] | None, typer.Argument(help="weights.pt, TorchScript or ONNX; by default the released ONNX.")
    ] = None,
    photographs: Annotated[bool, typer.Option(help="Use photographs that are rendered from the images.")] = False,
    images: Annotated[int, typer.Option(min=1, max=10_000, help="Number of photographs of each kind.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the photographs.")] = 0,
    split: Annotated[SplitName, typer.Option(help="The images to render as photographs.")] = SplitName.TEST,
    pictures: Annotated[
        Path | None, typer.Option(help="Only write pictures of the steps of preparation into this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the accuracy of models on test images that are corrupted, moved, rotated, sheared, scaled or inverted.

    The corruptions are ImageNet-C's 15 kinds at five severities, of the first 1,000 test images. They are generated and
    cached at the first use, which takes half an hour, and 700 MB for an environment in .venv-benchmarks. Each row has
    the mean over a kind's severities, the calibration error, and the share marked `unknown`.

    With `--photographs`, print the accuracy of one model on photographs of garments, and the share that it marks as
    unknown, for each way to prepare them.

    Examples:

    `fashion-mnist robustness model_store/model.onnx runs/course-0/weights.pt`

    `fashion-mnist robustness --photographs --images 200 --split validation`
    """
    settings = Settings.from_environment()
    paths = models or [model_store_path(settings) / "model.onnx"]
    if pictures:
        from training.photograph_pictures import write_pictures

        for path in write_pictures(dataset.load(settings.data).test.images[seed, 0], seed, pictures):
            print(path)
        return
    if photographs:
        if len(paths) > 1:
            raise UsageError("--photographs takes one model: name one")
        rows = evaluate(settings, paths[0], images, seed, split)
        if as_json:
            print(json.dumps(rows, indent=2))
        else:
            print_rows(rows)
        return
    data = dataset.load(settings.data)
    test = data.test
    corrupted = corruptions(test.images)
    with Console(stderr=True).status("evaluating"):
        from training import robustness as benchmark
        from training.evaluation import open_file

        found = {
            str(path): benchmark.robustness(open_file(path, data.task), test, corrupted, threshold=_threshold(path))
            for path in paths
        }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        head, *cells = table(found)
        print_table(head, cells, numbers_from=2)


def table(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The header and rows of a table of several models' figures."""
    head = ["change", "strengths"]
    for name in found:
        head += [name, "calibration error", "unknown"]
    rows = [head]
    first = next(iter(found.values()))
    for place, row in enumerate(first["rows"]):
        cells = [row["kind"], ", ".join(row["strengths"])]
        for figures in found.values():
            one = figures["rows"][place]
            flagged = "" if one["flagged"] is None else f"{one['flagged']:.1%}"
            cells += [f"{one['accuracy']:.2%}", f"{one['calibration_error']:.3f}", flagged]
        rows.append(cells)
    for group, figures in first["groups"].items():
        if figures["kinds"] > 1:
            cells = [f"**{group}**", f"mean of {figures['kinds']}"]
            for each in found.values():
                one = each["groups"][group]
                cells += [f"**{one['accuracy']:.2%}**", f"{one['calibration_error']:.3f}", ""]
            rows.append(cells)
    return rows


def cached_corruptions(images: "NDArray[np.uint8]") -> "dict[str, NDArray[np.uint8]] | None":
    """The cached corrupted images; None if some are missing."""
    from training.corruptions import IMAGES, load

    return load(images[:IMAGES])


def corruptions(images: "NDArray[np.uint8]") -> "dict[str, NDArray[np.uint8]]":
    """The corrupted images, generated with a progress bar if the cache is incomplete."""
    found = cached_corruptions(images)
    if found is not None:
        return found
    from training.corruptions import IMAGES, KINDS, make

    some = images[:IMAGES]
    try:
        from benchmarks import environments
    except ImportError:
        raise UsageError("corrupted images can be generated only in a checkout of this project: run it there") from None

    console = Console(stderr=True)
    with console.status("installing imagecorruptions into its environment"):
        python = environments.python("imagecorruptions-imaug")
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=len(KINDS))
        return make(some, python, lambda kind, done: progress.update(task, description=kind, completed=done))


def _threshold(path: Path) -> float | None:
    """The threshold for unknown images in the training summary beside the model; None if there is none."""
    summary = path.with_name("training_summary.json")
    return float(json.loads(summary.read_bytes())["unknown"]["threshold"]) if summary.is_file() else None
