"""`fashion-mnist train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli import options
from fashion_mnist.data import dataset
from fashion_mnist.data.splits import Dataset
from fashion_mnist.task import FASHION_MNIST

if TYPE_CHECKING:
    # Only for types: torch takes a second to import, and --help does not need it.
    from training import loop
    from training.recipes import Recipe

RUNS = Path("runs")


def train(
    recipe: Annotated[str, typer.Option(help="course, quick, supervised, teacher or release.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of the weights, the order of images and their augmentation.")] = 0,
    run: Annotated[Path | None, typer.Option(help="Folder of this run; by default runs/RECIPE-SEED.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    kernels: Annotated[str, typer.Option(help="auto, fused (compiled with g++ when first used) or torch.")] = "auto",
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Run of a teacher, instead of the recipe's own. Repeat it for each teacher."),
    ] = None,
    data: options.Data = None,
    network: options.Network = "",
    epochs: Annotated[int | None, typer.Option(help="Number of epochs, instead of the recipe's.", min=1)] = None,
    train_images: Annotated[int | None, typer.Option(help="Use only this many images, for experiments.", min=1)] = None,
) -> None:
    """Train the network by a recipe, into a run folder with weights, metrics and curves.

    Ctrl-C or a kill loses at most one epoch: `--resume` continues and gives bit-identical weights. If a recipe needs
    teachers and none are given, those that are missing in runs/ are trained first.

    Examples:

    `fashion-mnist train`

    `fashion-mnist train --recipe release --seed 3`

    `fashion-mnist train --recipe release --seed 3 --resume`

    `fashion-mnist train --data digits.npz --network my_network.py:MyNetwork`
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    # Here and below, because an image that only serves has no training/.
    from training import run_folder

    folder = run or RUNS / f"{recipe}-{seed}"
    run_folder.check(folder, resume=resume)
    with console.status("loading PyTorch and the data set"):
        from training import recipes

        chosen = recipes.recipe_named(recipe, epochs=epochs)
        images = dataset.load(options.settings(data).data)
        network_class = options.network_class(network)
    more: dict[str, Any] = {"device": device, "kernels": kernels, "train_images": train_images}
    prefix = ""
    if images.task != FASHION_MNIST:
        prefix = f"{images.task.name}-"
        console.print(
            f"{images.task.title}: {len(images.train.images):,} images of {images.task.geometry}, no mirroring"
        )
    teachers = teacher or [RUNS / f"{prefix}{name}" for name in chosen.teachers]
    for needed in [] if teacher else teachers:
        if not (needed / "training_summary.json").exists():
            begun = (needed / run_folder.SETTINGS).exists()
            console.print(f"{recipe} needs {needed}: {'continuing' if begun else 'training'} it first")
            name, _, number = needed.name.removeprefix(prefix).rpartition("-")
            _train(console, recipes.recipe_named(name), images, needed, seed=int(number), resume=begun, **more)
    folder = run or RUNS / f"{prefix}{recipe}-{seed}"
    more["network_class"] = network_class
    _train(console, chosen, images, folder, seed=seed, resume=resume, teachers=teachers, **more)


def _train(console: Console, recipe: "Recipe", images: Dataset, folder: Path, **options: Any) -> None:
    """Train into `folder`, and print the progress and the result."""
    from training import recipes, runs

    if images.task != FASHION_MNIST:
        recipe = recipes.for_other_data(recipe, len(images.train.images))

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}  left"),
        TimeRemainingColumn(),
    ]
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("starting", total=None, loss=0.0, accuracy=0.0)

            def tell(now: "loop.Progress") -> None:
                progress.update(
                    task,
                    description=f"epoch {now.epoch + 1}/{recipe.epochs}",
                    total=recipe.epochs * now.steps,
                    completed=now.epoch * now.steps + now.step,
                    loss=now.loss,
                    accuracy=now.accuracy,
                )

            def epoch_done(metrics: dict[str, Any]) -> None:
                console.print(
                    f"epoch {metrics['epoch']:>3}  loss {metrics['loss']:.4f}  accuracy {metrics['accuracy']:.2%}  "
                    f"held out {metrics['held_out_accuracy']:.2%}  {metrics['seconds']:.1f} s"
                )

            summary = runs.train(recipe, images, folder, tell=tell, epoch_done=epoch_done, **options)
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with the same command and --resume --run {folder}")
        raise typer.Exit(130) from None
    console.print(
        f"test accuracy {summary['test_accuracy']:.2%} (standard error {summary['test_standard_error']:.2%}), "
        f"held out {summary['held_out_accuracy']:.2%}, {summary['seconds']:.1f} s of training; in {folder}"
    )
