"""`fashion-mnist import`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from fashion_mnist.decoding.bodies import decode
from fashion_mnist.decoding.limits import Limits
from fashion_mnist.errors import FashionMNISTError, UsageError
from fashion_mnist.model_store import VERSION
from fashion_mnist.settings import Settings
from fashion_mnist.task import Geometry, HealthCheck, Task

if TYPE_CHECKING:
    from export.finished.store import Imported


def import_model(
    model: Annotated[
        Path, typer.Argument(help="The finished model: .onnx, TorchScript .pt, or .pt2 of torch.export.save.")
    ],
    classes: Annotated[Path, typer.Option(help="Text file with one class name per line, in the order of its outputs.")],
    size: Annotated[str, typer.Option(help="Size of its images, channels x height x width, such as 3x224x224.")],
    output: Annotated[Path, typer.Option(help="Folder to create: the model store to serve.")],
    name: Annotated[
        str | None, typer.Option(help="Its name in URLs; by default the file's name.", show_default=False)
    ] = None,
    mean: Annotated[
        str, typer.Option(help="Mean to subtract from pixels of 0 to 1: a number, or one per channel with commas.")
    ] = "0",
    std: Annotated[str, typer.Option(help="Standard deviation to divide by: a number, or one per channel.")] = "1",
    logits: Annotated[
        bool | None,
        typer.Option(
            "--logits/--probabilities", help="Its outputs; by default detected from its answers.", show_default=False
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(help="IMAGE=LABEL: an image file and its class, for the health check.", show_default=False),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            help="Resize the shorter side of images to this many pixels and crop the centre; by default images are "
            "scaled to fit and centred on black.",
            show_default=False,
        ),
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="The side of the crop, which must equal that of --size.", show_default=False)
    ] = None,
    version: Annotated[str, typer.Option(help="Version in answers.")] = "1.0",
) -> None:
    """Create a model store from a finished model, for `fashion-mnist serve`.

    Scaling, normalisation and softmax are added, so that it takes uint8 images and returns probabilities; the result is
    compared with the model itself. Nothing is unpickled.

    Examples:

        fashion-mnist import model.onnx --classes classes.txt --size 1x28x28 --output my_store

        fashion-mnist import resnet18.pt2 --classes imagenet.txt --size 3x224x224 --output resnet \\
            --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --resize 256 --crop 224 --check cat.jpg=tabby

        FASHION_MNIST_MODEL_STORE=my_store fashion-mnist serve
    """
    geometry = _geometry(size)
    if crop is not None and not (crop == geometry.height == geometry.width and resize):
        raise UsageError(f"--crop is {crop}: use it with --resize, and make it equal to the side of --size {size}")
    if not VERSION.fullmatch(version):
        raise UsageError(f"the version is {version!r}: use letters, digits, '.', '_' and '-', such as 1.1")
    names = _class_names(classes)
    image_file, label = _check_pair(check, names)
    task = Task(
        name=_task_name(model) if name is None else name,
        title=model.name,
        classes=names,
        geometry=geometry,
        health_check=HealthCheck("", label),
        resize=resize,
    )
    image = None if image_file is None else _read_image(image_file, task)
    console = Console()
    with console.status("starting PyTorch and ONNX Runtime") as status:
        # Imported here, because these imports take seconds.
        from export.finished.store import import_model as make
        from export.finished.wrapping import Wrapping

        wrapping = Wrapping(
            geometry=geometry,
            classes=len(names),
            mean=_numbers("mean", mean, geometry),
            std=_numbers("std", std, geometry),
            output=None if logits is None else "logits" if logits else "probabilities",
        )
        made = make(model, output, task, wrapping, version=version, health_image=image, progress=status.update)
    _report(console, made, checked=image is not None)


def _report(console: Console, made: "Imported", *, checked: bool) -> None:
    for parity in made.parities:
        console.print(
            f"{parity.engine}: the largest difference in probability is {parity.largest_difference:.1e} over "
            f"{parity.images} images"
        )
    console.print(
        f"its outputs are {made.output}" + (", to which softmax is applied" if made.output == "logits" else "")
    )
    if made.parities[-1].engine == "onnx":
        console.print("it has no TorchScript: serve it with --runtime onnx, the default")
    if not checked:
        console.print("without --check, the health check uses a random image and the model's own answer to it")
    console.print(
        f"written to {made.folder}; serve it: FASHION_MNIST_MODEL_STORE={made.folder} fashion-mnist serve",
        soft_wrap=True,
    )


def _geometry(size: str) -> Geometry:
    if not (found := re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", size)):
        raise UsageError(f"--size is {size!r}: use channels x height x width, such as 3x224x224")
    return Geometry(*map(int, found.groups()))


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): --classes is a text file with one class name per line"
        ) from None
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)


def _task_name(model: Path) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", model.stem.lower()).strip("_-") or "model"


def _check_pair(check: str | None, classes: tuple[str, ...]) -> tuple[Path | None, str]:
    if check is None:
        return None, classes[0] if classes else ""
    file, equals, label = check.partition("=")
    if not equals or label not in classes:
        raise UsageError(f"--check is {check!r}: use IMAGE=LABEL, with one of the class names")
    return Path(file), label


def _numbers(option: str, text: str, geometry: Geometry) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--{option} is {text!r}: use a number, or one per channel with commas") from None
    return values * geometry.channels if len(values) == 1 else values


def _read_image(path: Path, task: Task) -> NDArray[np.uint8]:
    try:
        decoded = decode(path.read_bytes(), "", Limits.from_settings(Settings()), task)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): --check is IMAGE=LABEL") from None
    except FashionMNISTError as error:
        raise UsageError(f"{path}: {error.message}") from None
    image: NDArray[np.uint8] = decoded.pixels[0]
    return image
