"""`fashion-mnist predict`."""

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from cli.tables import ending, print_table
from fashion_mnist.client import files as file_predictions
from fashion_mnist.client.http import Client
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import UsageError
from fashion_mnist.model_store import model_store_path, model_task, model_version, unknown_threshold
from fashion_mnist.preparation import MODES, parse_mode
from fashion_mnist.settings import Settings
from serving import readiness

_BAR = 10
_MOST_ROWS = 50
"""Of the table on a terminal."""
_HEAD = ("image", "label", "prob.", "", "unknown", "adjusted")
_NARROWEST, _WIDEST = 16, 12
"""Characters that names of images have at least there, and other columns at most before they break lines."""
_RETRY_S = 2.0
"""Long enough for a server that restarts, short enough for a person who has not started one."""


def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Images, or folders of images.")],
    url: Annotated[str | None, typer.Option(help="The server's URL; by default the one in the settings.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Compute here, without a server.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a row for each image.")] = False,
    prepare: Annotated[
        str, typer.Option(help="How to prepare images: auto, always, paper or none; by default as in the settings.")
    ] = "",
) -> None:
    """Predict the classes of images: PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF, .npy, IDX, raw bytes or JSON.

    Files that cannot be read are listed at the end, and the exit status is 1; the others are predicted.

    Examples:

    `fashion-mnist predict model_store/samples`

    `fashion-mnist predict --prepare always negatives.npy`

    `fashion-mnist predict --local --csv photo.jpg t10k-images-idx3-ubyte.gz > answers.csv`
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    files = file_predictions.find_files(paths)
    if not files:
        raise UsageError(
            f"no images in {', '.join(map(str, paths))}: files must end with {', '.join(file_predictions.SUFFIXES)}"
        )
    settings = Settings.from_environment()
    if prepare and prepare not in MODES:
        raise UsageError(f"--prepare is {prepare!r}: choose one of {', '.join(MODES)}")
    store = model_store_path(settings)
    task = model_task(store)
    if local:
        engine = open_engine(store, settings.runtime, settings.device, threads=settings.threads)
        send = file_predictions.local_sender(
            engine,
            Limits.from_settings(settings),
            task,
            model_version(store),
            unknown_threshold(store),
            parse_mode(prepare or settings.prepare),
        )
    else:
        url = url or readiness.own_url(settings)
        send = file_predictions.server_sender(Client(url, task=task, key=settings.key, retry_s=_RETRY_S), prepare)
    progress = Console(stderr=True)
    results = track(
        file_predictions.predict_files(files, send, task.geometry),
        description="predicting",
        total=len(files),
        console=progress,
        disable=len(files) <= file_predictions.BATCH_FILES or not progress.is_terminal,
        transient=True,
    )
    show = _print_json if as_json else _print_csv if as_csv else _print_table
    if failed := show(results):
        print(f"{len(failed)} of {len(files)} files have no prediction:", file=sys.stderr)
        for result in failed:
            print(f"  {result.path}: {result.error}", file=sys.stderr)
        raise typer.Exit(1)


def _rows(
    results: Iterable[file_predictions.FileResult], failed: list[file_predictions.FileResult]
) -> Iterable[tuple[str, dict[str, object]]]:
    """A row for each image, named by its file, with its index if the file has several."""
    for result in results:
        if result.error is not None:
            failed.append(result)
        for place, prediction in enumerate(result.predictions):
            name = str(result.path) if len(result.predictions) == 1 else f"{result.path}[{place}]"
            if "error" in prediction:
                message = prediction["error"]["message"]
                failed.append(file_predictions.FileResult(Path(name), error=message))
            else:
                yield name, prediction


def _print_table(results: Iterable[file_predictions.FileResult]) -> list[file_predictions.FileResult]:
    failed: list[file_predictions.FileResult] = []
    answered = list(_rows(results, failed))
    terminal = sys.stdout.isatty()
    shown = answered[:_MOST_ROWS] if terminal else answered
    rows = []
    for name, prediction in shown:
        probability = max(_probabilities(prediction).values())
        unknown = f"{'yes' if prediction['unknown'] else 'no'} {prediction['unknown_score']}"
        bar = "█" * round(probability * _BAR)
        rows.append(
            [name, str(prediction["label"]), f"{probability:.0%}", bar, unknown, ", ".join(_adjusted(prediction))]
        )
    if rows and terminal:
        # Of names what differs is at their end; a column's border and blanks are three characters.
        others = sum(min(max(map(len, column)), _WIDEST) + 3 for column in list(zip(_HEAD, *rows, strict=True))[1:])
        width = max(Console().width - others - 4, _NARROWEST)
        rows = [[ending(row[0], width), *row[1:]] for row in rows]
    if rows:
        print_table(_HEAD, rows, numbers_from=len(_HEAD), folded=len(_HEAD) - 1)
    if len(answered) > len(shown):
        print(f"and {len(answered) - len(shown):,} images more: --csv and --json print all")
    return failed


def _print_json(results: Iterable[file_predictions.FileResult]) -> list[file_predictions.FileResult]:
    failed: list[file_predictions.FileResult] = []
    predictions = [{"image": name, **prediction} for name, prediction in _rows(results, failed)]
    errors = [{"image": str(result.path), "message": result.error} for result in failed]
    print(json.dumps({"predictions": predictions, "errors": errors}, indent=2))
    return failed


def _print_csv(results: Iterable[file_predictions.FileResult]) -> list[file_predictions.FileResult]:
    failed: list[file_predictions.FileResult] = []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for place, (name, prediction) in enumerate(_rows(results, failed)):
        probabilities = _probabilities(prediction)
        if not place:
            writer.writerow(["image", "label", "index", "unknown", "unknown_score", "adjusted", *probabilities])
        known = [prediction[field] for field in ("label", "index", "unknown", "unknown_score")]
        writer.writerow([name, *known, "; ".join(_adjusted(prediction)), *probabilities.values()])
    return failed


def _probabilities(prediction: dict[str, object]) -> dict[str, float]:
    probabilities = prediction["probabilities"]
    assert isinstance(probabilities, dict)
    return probabilities


def _adjusted(prediction: dict[str, object]) -> list[str]:
    adjusted = prediction.get("adjusted", [])
    assert isinstance(adjusted, list)
    return adjusted
