"""The loop: epochs of steps over a data set that lies whole in memory, without a DataLoader."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fashion_mnist.dataset import Split
from fashion_mnist.errors import TrainingError
from fashion_mnist.network import Classifier, Network
from training.augment import augment
from training.recipes import Recipe

_EVALUATION_BATCH: Final = 1000
_SEEDS: Final = 2**32


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step. Loss and accuracy are of the epoch so far, on augmented images."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float


class Trainer:
    """A network, its optimiser and its averaged weights: the state that a checkpoint holds.

    Everything that is drawn in an epoch is drawn from a generator seeded by the seed and the epoch's number: an epoch
    comes out the same whatever was or was not run before it in the same process.
    """

    def __init__(self, recipe: Recipe, train: Split, *, seed: int, device: torch.device) -> None:
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.images = torch.from_numpy(train.images.copy())[:, None].to(device)
        self.labels = torch.from_numpy(train.labels.astype(np.int64)).to(device)
        scaled = train.images.astype(np.float32) / 255
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(activation=recipe.activation)
        self.classifier = Classifier(network, mean=float(scaled.mean()), std=float(scaled.std())).to(device)
        self.network = network
        self.steps = len(train.images) // recipe.batch_size
        if not self.steps:
            raise TrainingError(f"{len(train.images)} images are fewer than one batch of {recipe.batch_size}")
        self.optimizer = self._optimizer()
        self.averaged = [parameter.detach().clone() for parameter in network.parameters()]
        self.epoch = 0

    def run_epoch(self, tell: Callable[[Progress], None] = lambda progress: None) -> dict[str, float]:
        """One pass over the training images; its mean loss, accuracy, last learning rate and seconds.

        Raises TrainingError where the loss is no longer a number.
        """
        started = time.perf_counter()
        self.network.train()
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % _SEEDS)
        losses = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        for step, (images, labels) in enumerate(self._batches(generator)):
            learning_rate = self._learning_rate(self.epoch * self.steps + step)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            logits = self.network(self.classifier.normalise(images))
            loss = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self._average(self.epoch * self.steps + step)
            losses += loss.detach()
            right += (logits.detach().argmax(1) == labels).sum()
            if step % 20 == 19 or step + 1 == self.steps:
                # Reading a value waits for the device; a NaN stays in the sum, so it need not be looked for each step.
                mean = losses.item() / (step + 1)
                if not math.isfinite(mean):
                    raise TrainingError(
                        f"the loss is {mean} in epoch {self.epoch + 1}, by step {step + 1}, at a learning rate of "
                        f"{learning_rate:.2g}: the weights have diverged. Lower the recipe's learning_rate, or "
                        "lengthen its warm_up; the checkpoint of the epoch before is untouched"
                    )
                seen = (step + 1) * self.recipe.batch_size
                tell(Progress(self.epoch, step + 1, self.steps, mean, right.item() / seen))
        self.epoch += 1
        return {
            "loss": losses.item() / self.steps,
            "accuracy": right.item() / (self.steps * self.recipe.batch_size),
            "learning_rate": learning_rate,
            "seconds": time.perf_counter() - started,
        }

    def result(self) -> Classifier:
        """The classifier as it would be kept now: with the averaged weights, where the recipe averages, on the CPU."""
        network = Network(activation=self.recipe.activation)
        network.load_state_dict(self.network.state_dict())
        if self.recipe.ema_decay:
            with torch.no_grad():
                for parameter, average in zip(network.parameters(), self.averaged, strict=True):
                    parameter.copy_(average)
        return Classifier(network, self.classifier.mean.item(), self.classifier.std.item()).eval()

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, for `torch.save`."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaged = [average.to(self.device) for average in state["averaged"]]

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images), generator=generator)
        for chosen in order[: self.steps * self.recipe.batch_size].to(self.device).view(self.steps, -1):
            images = augment(self.images[chosen], flip=self.recipe.flip, shift=self.recipe.shift, generator=generator)
            yield images, self.labels[chosen]

    def _optimizer(self) -> torch.optim.Optimizer:
        weights = [parameter for parameter in self.network.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in self.network.parameters() if parameter.ndim == 1]
        groups = [
            {"params": weights, "weight_decay": self.recipe.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ]
        kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        # One fused kernel a step instead of a dozen a parameter.
        return kinds[self.recipe.optimizer](groups, lr=self.recipe.learning_rate, fused=True)

    def _learning_rate(self, step: int) -> float:
        highest = self.recipe.learning_rate
        if self.recipe.optimizer == "adam":
            return highest
        done = (step + 1) / (self.recipe.epochs * self.steps)
        if done < self.recipe.warm_up:
            return highest * done / self.recipe.warm_up
        return highest * (1 + math.cos(math.pi * (done - self.recipe.warm_up) / (1 - self.recipe.warm_up))) / 2

    def _average(self, step: int) -> None:
        if self.recipe.ema_decay:
            # A short memory at first, or the initial weights would stay in the average for long.
            decay = min(self.recipe.ema_decay, (step + 1) / (step + 10))
            torch._foreach_lerp_(
                self.averaged, [parameter.detach() for parameter in self.network.parameters()], 1 - decay
            )


def predict(classifier: nn.Module, images: np.ndarray) -> np.ndarray:
    """Probabilities, float32 [n, 10], of images, uint8 [n, 28, 28], on the classifier's own device."""
    device = next(classifier.parameters()).device
    with torch.inference_mode():
        batches = torch.from_numpy(images.copy())[:, None].split(_EVALUATION_BATCH)
        probabilities: np.ndarray = torch.cat([classifier(batch.to(device)).cpu() for batch in batches]).numpy()
        return probabilities
