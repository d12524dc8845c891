"""`fashion-mnist explain`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fashion_mnist.decoding.bodies import decode_image
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.errors import ModelError, UsageError
from fashion_mnist.model_store import EXPLAIN, model_store_path, model_task
from fashion_mnist.preparation import MODES, parse_mode
from fashion_mnist.settings import Settings


def explain(
    file: Annotated[Path, typer.Argument(help="One image: PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF, .npy or raw bytes.")],
    output: Annotated[
        Path | None, typer.Option(help="The picture to write; by default the image's name with -explained.png.")
    ] = None,
    prepare: Annotated[
        str,
        typer.Option(help="How to prepare the image: auto, always, paper or none; by default as in the settings."),
    ] = "",
) -> None:
    """Draw what the released model sees on an image: each layer's maps, and which parts support its prediction.

    The occlusion map beside the image is red where the prediction's probability falls if that part is black.

    Examples:

    `fashion-mnist explain model_store/samples/ankle_boot.png`

    `fashion-mnist explain photo.jpg --output explained.png`
    """
    if prepare and prepare not in MODES:
        raise UsageError(f"--prepare is {prepare!r}: choose one of {', '.join(MODES)}")
    settings = Settings.from_environment()
    store = model_store_path(settings)
    task = model_task(store)
    output = output or Path(f"{file.stem}-explained.png")
    if output.exists() and output.samefile(file):
        raise UsageError(f"{output} is the image itself: name another --output")
    budget = Budget(Limits.from_settings(settings), task, prepare=parse_mode(prepare or settings.prepare))
    (image,) = decode_image(file.read_bytes(), budget).pixels
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    with console.status("computing and drawing"):
        # Imported here, because ONNX Runtime and Matplotlib take a second to import and --help does not need them.
        from fashion_mnist.explanation import open_explainer
        from training import plots

        explainer = open_explainer(store)
        if explainer is None:
            raise ModelError(f"{store} has no {EXPLAIN}: run `fashion-mnist export`")
        explanation = explainer.explain(image)
        plots.save(plots.layers_and_occlusion(image, explanation.layers, explanation.occlusion, task.classes), output)
    winner = int(explanation.probabilities.argmax())
    print(f"{task.classes[winner]}: {explanation.probabilities[winner]:.1%}")
    console.print(f"written: {output}")
