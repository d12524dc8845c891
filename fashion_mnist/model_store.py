"""Where the released model lies, and what its card says."""

import json
import math
import re
from pathlib import Path
from typing import Any, Final

from fashion_mnist.errors import ModelError
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST, Task

_RELEASED: Final = Path(__file__).resolve().parent.parent / "model_store"

CARD: Final = "model_card.json"
"""The model card's name in the model store and in the archive."""

EXPLAIN: Final = "explain.onnx"
"""The graph of `fashion_mnist.explanation`, in model stores that have one."""

MISTAKES: Final = "mistakes.json"
MISTAKES_SPRITE: Final = "mistakes.webp"
"""What the model answers to the test images, and some of these, in model stores that have them."""

VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A version's name: it stands in answers, in URLs and in TorchServe's archive."""

HEALTH_IMAGE: Final = FASHION_MNIST.health_check


def model_store_path(settings: Settings) -> Path:
    """The model store that the settings name, or the repository's own."""
    return Path(settings.model_store) if settings.model_store else _RELEASED


def model_card(model_store: Path) -> dict[str, Any]:
    """The model card, as model_card.json has it. Raises ModelError."""
    path = model_store / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): restore it, or run `fashion-mnist export`") from None
    return card


def model_version(model_store: Path) -> str:
    """The version that every answer carries. Raises ModelError."""
    return str(model_card(model_store)["model_version"])


def unknown_threshold(model_store: Path) -> float:
    """The score above which an image counts as unknown (`fashion_mnist.ood`). Raises ModelError.

    Infinite, so that no image does, where the card has none: it takes training to fit one.
    """
    return float(model_card(model_store).get("unknown", {}).get("threshold", math.inf))


def model_task(model_store: Path) -> Task:
    """The task of a model store's model. Raises ModelError."""
    return Task.from_card(model_card(model_store))


def read_health_image(model_store: Path) -> bytes:
    """The bytes of the task's health-check image. Raises ModelError."""
    path = model_store / model_task(model_store).health_check.image
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}): restore it, or run `fashion-mnist export`"
        ) from None
