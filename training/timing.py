"""What an epoch takes in several ways of writing it, measured interleaved in one process.

    python -m training.timing [THREADS]

Printed are the medians, as seconds for an epoch of 55,000 images by the recipe `quick`: with the fused kernels; with
PyTorch's operations on a data set that lies whole in memory; and with the usual DataLoader, which makes each image a
tensor by itself.
"""

import statistics
import sys
import time
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fashion_mnist.data import dataset
from fashion_mnist.data.splits import Split
from training import runs
from training.augment import draw_moves, move
from training.loop import Trainer
from training.recipes import QUICK

IMAGES: Final = 10_240
ROUNDS: Final = 5
"""Each way trains on so many images so many times, after a first time that is not counted."""


class Images(Dataset[tuple[Tensor, int]]):
    """What a tutorial would write: one image at a time becomes a normalised tensor, moved at random."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def __len__(self) -> int:
        return len(self._trainer.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        recipe = self._trainer.recipe
        moves = draw_moves(1, flip=recipe.flip, shift=recipe.shift, generator=torch.default_generator)
        image = self._trainer.classifier.normalise(move(self._trainer.images[index : index + 1], moves))
        return image[0], int(self._trainer.labels[index])


def loader_epoch(trainer: Trainer) -> float:
    """Train for an epoch from a DataLoader, in this process; its seconds."""
    started = time.perf_counter()
    optimizer = torch.optim.AdamW(trainer.network.parameters(), lr=1e-3)
    for images, labels in DataLoader(Images(trainer), batch_size=trainer.recipe.batch_size, shuffle=True):
        loss = functional.cross_entropy(trainer.network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    """Print each way's seconds for an epoch."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads())
    train, _ = runs.split(dataset.load().train)
    some = Split(train.images[:IMAGES], train.labels[:IMAGES])
    recipe = replace(QUICK, epochs=1000)
    trainers = {
        kernels: Trainer(recipe, some, seed=0, device=torch.device("cpu"), kernels=kernels)
        for kernels in ("fused", "torch")
    }
    times: dict[str, list[float]] = {"fused": [], "torch": [], "DataLoader": []}
    for _ in range(1 + ROUNDS):
        for kernels, trainer in trainers.items():
            times[kernels].append(trainer.run_epoch()["seconds"])
        times["DataLoader"].append(loader_epoch(trainers["torch"]))
    for name, seconds in times.items():
        epoch = statistics.median(seconds[1:]) * len(train.images) / IMAGES
        print(f"{name}\t{epoch:.2f} s an epoch\t{torch.get_num_threads()} threads, batches of {recipe.batch_size}")


if __name__ == "__main__":
    main()
