"""The options of several commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fashion_mnist.settings import Settings

if TYPE_CHECKING:
    # Imported where it is needed: torch takes a second, and --help can do without.
    from fashion_mnist.network import NetworkClass

Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Your own data: a folder of IDX files, a folder with a folder of images for each class, or an .npz."
    ),
]
Network: TypeAlias = Annotated[
    str, typer.Option(metavar="FILE.py:CLASS", help="A network of your own, any torch.nn.Module that gives logits.")
]


def settings(data: Path | None) -> Settings:
    """The settings, with the data set that the command line names."""
    return Settings.from_environment(data=str(data) if data else None)


def network_class(spec: str) -> "NetworkClass | None":
    """The class that `FILE.py:CLASS` names; None for "". Raises UsageError."""
    if not spec:
        return None
    from fashion_mnist.network import load_class

    return load_class(spec)
