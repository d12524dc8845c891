"""Whether a folder can take a run. Without PyTorch, so that it is known before anything is loaded."""

from pathlib import Path
from typing import Final

from fashion_mnist.errors import TrainingError

SETTINGS: Final = "settings.json"


def check(folder: Path, *, resume: bool) -> None:
    """Raise TrainingError where a run would go on that is not there, or begin where one is."""
    begun = (folder / SETTINGS).exists()
    if resume and not begun:
        raise TrainingError(f"{folder} holds no run to go on with: leave --resume out, or name the right --run")
    if begun and not resume:
        raise TrainingError(f"{folder} holds a run already: add --resume to go on with it, or name another --run")
