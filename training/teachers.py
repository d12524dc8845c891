"""Teachers: networks whose probabilities are distilled into one. What they answer is computed once and kept.

They see affine versions of the training images, and the network sees the same ones for hundreds of epochs: "a good
teacher is patient and consistent", Beyer et al. 2021, arxiv.org/abs/2106.05237.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from fashion_mnist.errors import TrainingError
from fashion_mnist.network import Classifier, Network
from fashion_mnist.system import atomic, checksums
from fashion_mnist.task import CARD_SECTION, Task
from training.perturb import SMALL, affine
from training.recipes import Recipe
from training.residual import ResidualNetwork

_BATCH: Final = 256
_SEED: Final = 20170825
"""Versions are the same for every seed of the network, so that the teachers see them once."""


class Teachers:
    """The networks of several runs, asked about views of the training images."""

    def __init__(self, folders: Sequence[Path], recipe: Recipe, images: np.ndarray) -> None:
        """`images`, uint8 [n, channels, height, width], are those that `recipe` trains on. Raises TrainingError."""
        self._folders = folders
        self._recipe = recipe
        self._images = images
        self._classifiers = [_load(folder / "weights.pt") for folder in folders]
        self._checksums = [checksums.of(folder / "weights.pt") for folder in folders]
        self._known: dict[int, tuple[np.ndarray, Tensor]] = {}

    def described(self) -> list[dict[str, Any]]:
        """What each was trained by, its accuracy, and its weights' checksum."""
        summaries = [json.loads((folder / "training_summary.json").read_text()) for folder in self._folders]
        kept = ("seed", "epochs", "held_out_accuracy", "test_accuracy")
        return [
            {"recipe": summary["recipe"]["name"], **{name: summary[name] for name in kept}, "sha256": checksum}
            for summary, checksum in zip(summaries, self._checksums, strict=True)
        ]

    def view(self, number: int) -> tuple[np.ndarray, Tensor]:
        """An affine version of all images, of their shape, and the mean log-probabilities, float16 [n, classes].

        Large teachers and small ones count for a half each, however many there are of either.
        """
        if number not in self._known:
            random = np.random.default_rng((_SEED, number))
            images = affine(self._images, self._recipe.affine, SMALL, random)
            by_kind: dict[type, list[Tensor]] = {}
            for place, classifier in enumerate(self._classifiers):
                by_kind.setdefault(type(classifier.network), []).append(self._answers(place, images).float())
            answers = torch.stack([torch.stack(each).mean(0) for each in by_kind.values()]).mean(0)
            self._known[number] = images, answers.half()
        return self._known[number]

    def _answers(self, place: int, images: np.ndarray) -> Tensor:
        """One teacher's log-probabilities, float16 [n, classes], from an earlier run's file if there is one."""
        asked = hashlib.sha256(self._checksums[place].encode())
        asked.update(images.tobytes())
        path = self._folders[place] / "answers" / f"{asked.hexdigest()[:16]}.npy"
        if not path.exists():
            answers = log_probabilities(self._classifiers[place], images)
            with atomic.replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, answers.numpy())
        return torch.from_numpy(np.load(path))


def log_probabilities(classifier: Classifier, images: np.ndarray) -> Tensor:
    """float16 [n, classes] of images, uint8 [n, c, h, w]: the mean of an image's and of its mirrored view's."""
    answers = []
    residual = isinstance(classifier.network, ResidualNetwork)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=residual):
        for batch in torch.from_numpy(images).split(_BATCH):
            both = classifier.network(classifier.normalise(torch.cat([batch, batch.flip(-1)]))).float().log_softmax(1)
            answers.append((sum(both.chunk(2)) / 2).half())
    return torch.cat(answers)


def _load(path: Path) -> Classifier:
    """A teacher's classifier: the residual network, or one of those that learn from it."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = content["state_dict"]
        is_released_kind = "network.conv1.weight" in state
        task = Task.from_card({CARD_SECTION: content["task"]})
        if is_released_kind:
            network = Network(task.geometry, len(task.classes), **content["arguments"])
        else:
            network = cast(Network, ResidualNetwork(**content["arguments"]))
        classifier = Classifier(network, mean=0.0, std=1.0, task=task)
        classifier.load_state_dict(state)
    except Exception as error:
        # torch.load raises whatever its zip reader, its unpickler or the file's content make it raise.
        reason = str(error).strip().partition("\n")[0][:200]
        raise TrainingError(
            f"{path} cannot teach ({reason}): train it with `fashion-mnist train --recipe teacher`"
        ) from None
    return classifier.eval()
