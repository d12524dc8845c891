"""The released model's folder, and its model card."""

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
"""The confusion matrix, and some misclassified test images, in model stores that have them."""

VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A version's name, which is part of answers, URLs and TorchServe's archive."""

HEALTH_IMAGE: Final = FASHION_MNIST.health_check
"""The health-check image's file in the model store, and its label."""


def model_store_path(settings: Settings) -> Path:
    """The model store in the settings, or the repository's own."""
    return Path(settings.model_store) if settings.model_store else _RELEASED


def model_card(model_store: Path) -> dict[str, Any]:
    """The content of model_card.json. Raises ModelError."""
    path = model_store / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): restore it, or run `fashion-mnist export`") from None
    return card


def model_version(model_store: Path) -> str:
    """The model's version, which every answer contains. Raises ModelError."""
    return str(model_card(model_store)["model_version"])


def unknown_threshold(model_store: Path) -> float:
    """The score above which an image counts as unknown (`fashion_mnist.ood`). Raises ModelError.

    Infinity, so that no image does, if the card has none: only training fits one.
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
