"""The loop: epochs of steps over a data set that lies whole in memory, without a DataLoader."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fashion_mnist import network
from fashion_mnist.data.splits import Split
from fashion_mnist.errors import TrainingError
from fashion_mnist.network import Classifier, Network, NetworkClass
from fashion_mnist.task import FASHION_MNIST, Task
from training import fused, perturb
from training.augment import draw_moves, draw_rectangles, erase, move
from training.optimizers import optimizers
from training.recipes import Recipe
from training.residual import ResidualNetwork
from training.teachers import Teachers

_EVALUATION_BATCH: Final = 250
"""What a batch gives after the first convolution, 3.5 MB, fits into a cache: 41 us an image, where 1,000 took 68 us."""
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

    `kernels` is "fused" for the convolutions of `training.fused`, or "torch". With `teachers` their probabilities are
    distilled into the network, without them it learns from the labels.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Split,
        *,
        seed: int,
        device: torch.device,
        kernels: str = "torch",
        teachers: Teachers | None = None,
        task: Task = FASHION_MNIST,
        network_class: NetworkClass | None = None,
    ) -> None:
        self.recipe = recipe
        self.teachers = teachers
        self.kernels = kernels
        self.seed = seed
        self.device = device
        self._train_images = train.images.copy()
        self.images = torch.from_numpy(self._train_images).to(device)
        self.labels = torch.from_numpy(train.labels.astype(np.int64)).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = new_network(recipe, task, network_class)
        mean, std = mean_and_deviation(train.images, recipe.gamma)
        self.task = task
        self.network_class = network_class
        self.classifier = Classifier(made, mean, std, gamma=recipe.gamma, task=task).to(device)
        self.network = made
        self.steps = len(train.images) // recipe.batch_size
        if not self.steps:
            raise TrainingError(f"{len(train.images)} images are fewer than one batch of {recipe.batch_size}")
        self.optimizers = optimizers(recipe, list(made.parameters()))
        self.averaged = [tensor.detach().clone() for tensor in _averaged(made)]
        self.epoch = 0

    def run_epoch(self, tell: Callable[[Progress], None] = lambda progress: None) -> dict[str, float]:
        """One pass over the training images; its mean loss, accuracy, last learning rate and seconds.

        Raises TrainingError where the loss is no longer a number.
        """
        started = time.perf_counter()
        self.network.train()
        generator = epoch_generator(self.seed, self.epoch)
        losses = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        seen = self.steps * self.recipe.batch_size
        order = torch.randperm(len(self.images), generator=generator)[:seen].view(self.steps, -1)
        images, answers = self._epoch_images()
        drawn = draw_moves(seen, flip=self.recipe.flip, shift=self.recipe.shift, generator=generator)
        rectangles = None
        if self.recipe.erase:
            rectangles = draw_rectangles(seen, chance=self.recipe.erase, generator=generator).view(self.steps, -1, 5)
        with ExitStack() as stack:
            threads = torch.get_num_threads()
            pool = stack.enter_context(ThreadPoolExecutor(threads)) if self.kernels == "fused" and threads > 1 else None
            for step, (chosen, moves) in enumerate(zip(order, drawn.view(self.steps, -1, 3), strict=True)):
                share = schedule(self.recipe, (self.epoch * self.steps + step + 1) / (self.recipe.epochs * self.steps))
                for optimizer in self.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = group["highest"] * share
                logits = self._logits(images, chosen, moves, None if rectangles is None else rectangles[step], pool)
                labels = self.labels[chosen.to(self.device)]
                loss = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
                if answers is not None:
                    distance = self._distance(logits, answers[chosen].to(self.device))
                    loss = torch.lerp(distance, loss, self.recipe.label_weight)
                for optimizer in self.optimizers:
                    optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for optimizer in self.optimizers:
                    optimizer.step()
                self._average(self.epoch * self.steps + step)
                losses += loss.detach()
                right += (logits.detach().argmax(1) == labels).sum()
                if step % 20 == 19 or step + 1 == self.steps:
                    # Reading a value waits for the device; a NaN stays in the sum: it need not be looked for each step.
                    mean = losses.item() / (step + 1)
                    if not math.isfinite(mean):
                        raise TrainingError(
                            f"the loss is {mean} in epoch {self.epoch + 1}, by step {step + 1}, at a learning rate of "
                            f"{share * self.recipe.learning_rate:.2g}: the weights have diverged. Lower the recipe's "
                            "learning_rate, or lengthen its warm_up; the checkpoint of the epoch before is untouched"
                        )
                    done = (step + 1) * self.recipe.batch_size
                    tell(Progress(self.epoch, step + 1, self.steps, mean, right.item() / done))
        self.epoch += 1
        return {
            "loss": losses.item() / self.steps,
            "accuracy": right.item() / seen,
            "learning_rate": share * self.recipe.learning_rate,
            "seconds": time.perf_counter() - started,
        }

    def result(self) -> Classifier:
        """The classifier as it would be kept now: with the averaged weights, where the recipe averages, on the CPU."""
        made = new_network(self.recipe, self.task, self.network_class)
        made.load_state_dict(self.network.state_dict())
        if self.recipe.ema_decay:
            with torch.no_grad():
                for tensor, average in zip(_averaged(made), self.averaged, strict=True):
                    tensor.copy_(average)
        mean, std = (values.flatten().tolist() for values in (self.classifier.mean, self.classifier.std))
        return Classifier(made, mean, std, gamma=self.recipe.gamma, task=self.task).eval()

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, for `torch.save`."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averaged": self.averaged,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.averaged = [average.to(self.device) for average in state["averaged"]]

    def _epoch_images(self) -> tuple[Tensor, Tensor | None]:
        """This epoch's images, uint8 [n, channels, height, width], and the teachers' log-probabilities of them, float16
        [n, classes]."""
        recipe, images, answers = self.recipe, self._train_images, None
        random = np.random.default_rng((self.seed, self.epoch))
        if self.teachers is not None:
            images, answers = self.teachers.view(self.epoch % recipe.views)
        elif recipe.affine:
            images = perturb.affine(images, recipe.affine, perturb.SMALL, random)
        if recipe.corrupt:
            images = perturb.corrupt(images, recipe.corrupt, random)
        if images is self._train_images:
            return self.images, answers
        return torch.from_numpy(images).to(self.device), answers

    def _logits(
        self, images: Tensor, chosen: Tensor, moves: Tensor, rectangles: Tensor | None, pool: ThreadPoolExecutor | None
    ) -> Tensor:
        """Of `images[chosen]`, chosen int64 [n], each moved by its row of `moves`, int8 [n, 3], then erased in part."""
        if self.kernels == "fused":
            assert isinstance(self.network, Network)
            return self.network.classify(fused.features(images, chosen, moves, self.classifier, pool))
        batch = move(images[chosen.to(self.device)], moves)
        if rectangles is not None:
            batch = erase(batch, rectangles)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.residual):
            logits: Tensor = self.network(self.classifier.normalise(batch))
        return logits.float()

    def _distance(self, logits: Tensor, answers: Tensor) -> Tensor:
        """The divergence of the network's probabilities from its teachers', both at the recipe's temperature.

        The square keeps the gradient's size the same at every temperature. Source: Hinton et al. 2015,
        arxiv.org/abs/1503.02531.
        """
        temperature = self.recipe.temperature
        return (
            functional.kl_div(
                functional.log_softmax(logits / temperature, 1),
                functional.log_softmax(answers.float() / temperature, 1),
                reduction="batchmean",
                log_target=True,
            )
            * temperature**2
        )

    def _average(self, step: int) -> None:
        if self.recipe.ema_decay:
            average(self.averaged, _averaged(self.network), self.recipe, step)


def mean_and_deviation(images: np.ndarray, gamma: float) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's pixels, as shares of white to the power of `gamma`.

    Takes uint8 [n, channels, height, width].
    """
    levels = (np.arange(256) / 255) ** gamma
    means, deviations = [], []
    for channel in range(images.shape[1]):
        pixels = images[:, channel].reshape(-1)
        # By how often each of 256 levels occurs: a tenth of the time, and exact. In parts: bincount widens its input.
        parts = np.array_split(pixels, 1 + pixels.size // 2**18)
        shares = sum(np.bincount(part, minlength=256) for part in parts) / pixels.size
        means.append(float(shares @ levels))
        deviations.append(float(np.sqrt(shares @ (levels - means[-1]) ** 2)))
    return means, deviations


def new_network(recipe: Recipe, task: Task = FASHION_MNIST, network_class: NetworkClass | None = None) -> Network:
    """An untrained network of a recipe, or of `network_class`, drawn from torch's own generator.

    Whatever its class, it has all that a classifier and this loop ask of a network.
    """
    if network_class is not None:
        return cast(Network, network.new_network(network_class, task))
    if recipe.residual:
        return cast(Network, ResidualNetwork(task.geometry.channels, len(task.classes)))
    return Network(task.geometry, len(task.classes), activation=recipe.activation)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """What all of an epoch's draws come from."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % _SEEDS)


def schedule(recipe: Recipe, done: float) -> float:
    """The learning rate's share of its peak, when `done` of all steps are taken, the one to take included."""
    if recipe.optimizer == "adam":
        return 1.0
    if done < recipe.warm_up:
        return done / recipe.warm_up
    return (1 + math.cos(math.pi * (done - recipe.warm_up) / (1 - recipe.warm_up))) / 2


def average(averages: list[Tensor], tensors: list[Tensor], recipe: Recipe, step: int) -> None:
    """Move averages towards what the weights are after `step`."""
    # A short memory at first, or the initial weights would stay in the average for long.
    decay = min(recipe.ema_decay, (step + 1) / (step + 10))
    torch._foreach_lerp_(averages, [tensor.detach() for tensor in tensors], 1 - decay)


def _averaged(network: nn.Module) -> list[Tensor]:
    """What is averaged: parameters, and the means and variances of batch normalisation."""
    return [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]


def predict(classifier: nn.Module, images: np.ndarray) -> np.ndarray:
    """Probabilities, float32 [n, 10], of images, uint8 [n, 28, 28], on the classifier's own device."""
    device = next(classifier.parameters()).device
    with torch.inference_mode():
        batches = torch.from_numpy(images.copy()).split(_EVALUATION_BATCH)
        probabilities: np.ndarray = torch.cat([classifier(batch.to(device)).cpu() for batch in batches]).numpy()
        return probabilities
