"""Teachers: wider networks whose answers the network learns to give. What they answer is computed once and kept.

The network sees an image moved the same way as its teachers did (mirrored or not, of which they say the same), and many
ways of moving it: "a good teacher is patient and consistent", Beyer et al. 2021, arxiv.org/abs/2106.05237.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from fashion_mnist import atomic, checksums
from fashion_mnist.errors import TrainingError
from fashion_mnist.network import Classifier, Network
from training.augment import draw_moves, move
from training.recipes import Recipe
from training.residual import ResidualNetwork

_BATCH: Final = 256
_SEED: Final = 20170825
"""Views are the same for every seed of the network, so that their answers are computed once."""


class Teachers:
    """The networks of several runs, asked about views of the training images."""

    def __init__(self, folders: Sequence[Path], recipe: Recipe, images: np.ndarray) -> None:
        """`images`, uint8 [n, 28, 28], are those that `recipe` trains on. Raises TrainingError."""
        self._folders = folders
        self._recipe = recipe
        self._images = torch.from_numpy(images.copy())[:, None]
        self._classifiers = [_load(folder / "weights.pt") for folder in folders]
        self._checksums = [checksums.of(folder / "weights.pt") for folder in folders]
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def described(self) -> list[dict[str, Any]]:
        """What each was trained by, its accuracy, and its weights' checksum."""
        summaries = [json.loads((folder / "training_summary.json").read_text()) for folder in self._folders]
        kept = ("seed", "epochs", "held_out_accuracy", "test_accuracy")
        return [
            {"recipe": summary["recipe"]["name"], **{name: summary[name] for name in kept}, "sha256": checksum}
            for summary, checksum in zip(summaries, self._checksums, strict=True)
        ]

    def view(self, number: int) -> tuple[Tensor, Tensor]:
        """Moves of all training images, int8 [n, 3], and the teachers' mean logits for them so, float16 [n, 10]."""
        if number not in self._known:
            generator = torch.Generator().manual_seed(_SEED + number)
            moves = draw_moves(len(self._images), flip=self._recipe.flip, shift=self._recipe.shift, generator=generator)
            answers = [self._answers(place, moves).float() for place in range(len(self._folders))]
            self._known[number] = moves, torch.stack(answers).mean(0).half()
        return self._known[number]

    def _answers(self, place: int, moves: Tensor) -> Tensor:
        """One teacher's logits, float16 [n, 10], from the file where an earlier run left them, if one did."""
        asked = hashlib.sha256(self._checksums[place].encode())
        asked.update(self._images.numpy().tobytes())
        asked.update(moves.numpy().tobytes())
        path = self._folders[place] / "answers" / f"{asked.hexdigest()[:16]}.npy"
        if not path.exists():
            logits = _ask(self._classifiers[place], self._images, moves)
            with atomic.replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, logits.numpy())
        return torch.from_numpy(np.load(path))


def _ask(classifier: Classifier, images: Tensor, moves: Tensor) -> Tensor:
    """Logits, float16 [n, 10], of images, uint8 [n, 1, 28, 28], moved: the mean of an image's and of its mirror's."""
    logits = []
    with torch.inference_mode():
        for chosen in torch.arange(len(images)).split(_BATCH):
            moved = move(images[chosen], moves[chosen])
            both = classifier.network(classifier.normalise(torch.cat([moved, moved.flip(-1)])))
            logits.append((sum(both.chunk(2)) / 2).half())
    return torch.cat(logits)


def _load(path: Path) -> Classifier:
    """A teacher's classifier: the residual network, or one of those that learn from it."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = content["state_dict"]
        is_released_kind = "network.conv1.weight" in state
        network = Network(activation=content["activation"]) if is_released_kind else ResidualNetwork()
        classifier = Classifier(cast(Network, network), mean=0.0, std=1.0)
        classifier.load_state_dict(state)
    except Exception as error:
        # torch.load raises whatever its zip reader, its unpickler or the file's content make it raise.
        reason = str(error).strip().partition("\n")[0][:200]
        raise TrainingError(
            f"{path} cannot teach ({reason}): train it with `fashion-mnist train --recipe teacher`"
        ) from None
    return classifier.eval()
