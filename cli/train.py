"""`fashion-mnist train`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fashion_mnist import dataset
from fashion_mnist.settings import Settings


def train(
    recipe: Annotated[str, typer.Option(help="course, quick or release.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of the weights, the order of images and their augmentation.")] = 0,
    run: Annotated[Path | None, typer.Option(help="Folder of this run; by default runs/RECIPE-SEED.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: Annotated[Path | None, typer.Option(help="Folder with the data set's four files.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    train_images: Annotated[int | None, typer.Option(help="Only so many images, to try things.", min=1)] = None,
) -> None:
    """Train the network by a recipe, into a run folder with weights, metrics and curves.

    Ctrl-C, or a kill, loses at most one epoch: `--resume` goes on and gives the same weights, bit for bit.

    Examples:

    `fashion-mnist train`

    `fashion-mnist train --recipe release --seed 3`

    `fashion-mnist train --recipe release --seed 3 --resume`
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    folder = run or Path("runs") / f"{recipe}-{seed}"
    with console.status("loading PyTorch and the data set"):
        from training import loop, recipes, runs

        chosen = recipes.recipe_named(recipe, epochs=epochs)
        settings = Settings.from_environment(data=str(data) if data else None)
        images = dataset.load(Path(settings.data) if settings.data else None)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}  left"),
        TimeRemainingColumn(),
    ]
    started = time.monotonic()
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("starting", total=None, loss=0.0, accuracy=0.0)

            def tell(now: loop.Progress) -> None:
                progress.update(
                    task,
                    description=f"epoch {now.epoch + 1}/{chosen.epochs}",
                    total=chosen.epochs * now.steps,
                    completed=now.epoch * now.steps + now.step,
                    loss=now.loss,
                    accuracy=now.accuracy,
                )

            def epoch_done(metrics: dict[str, Any]) -> None:
                console.print(
                    f"epoch {metrics['epoch']:>3}  loss {metrics['loss']:.4f}  accuracy {metrics['accuracy']:.2%}  "
                    f"held out {metrics['held_out_accuracy']:.2%}  {metrics['seconds']:.1f} s"
                )

            summary = runs.train(
                chosen,
                images,
                folder,
                seed=seed,
                device=device,
                train_images=train_images,
                resume=resume,
                tell=tell,
                epoch_done=epoch_done,
            )
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with the same command and --resume --run {folder}")
        raise typer.Exit(130) from None
    console.print(
        f"test accuracy {summary['test_accuracy']:.2%} (standard error {summary['test_standard_error']:.2%}), "
        f"held out {summary['held_out_accuracy']:.2%}, {time.monotonic() - started:.1f} s in all; in {folder}"
    )
