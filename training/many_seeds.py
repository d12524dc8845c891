"""Many seeds of one recipe at once: one network of this size leaves a GPU idle, a stack of them does not.

    python -m training.many_seeds [RECIPE] [SEEDS] [EPOCHS]

Prints the accuracy on the held-out images, mean and standard deviation over the seeds, and the seconds that it took.
All that a seed draws is what it draws in `training.loop`: its network comes out the same, but for rounding.
"""

import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from fashion_mnist.data import dataset
from fashion_mnist.data.splits import Split
from fashion_mnist.errors import TrainingError, UsageError
from fashion_mnist.network import Classifier
from training import runs
from training.augment import draw_moves, move
from training.loop import average, epoch_generator, mean_and_deviation, new_network, predict, schedule
from training.optimizers import optimizers
from training.recipes import Recipe, recipe_named


class ManySeeds:
    """The networks of several seeds, as one stack on one device, with the data set beside them."""

    def __init__(self, recipe: Recipe, train: Split, *, seeds: Sequence[int], device: torch.device) -> None:
        """Raises UsageError for a recipe with teachers, of one, or with affine images: these are trained one by one."""
        if recipe.teachers or recipe.residual or recipe.affine:
            raise UsageError(f"{recipe.name} is trained seed by seed: use `fashion-mnist train`")
        self._recipe, self._seeds, self._device = recipe, seeds, device
        self._images = torch.from_numpy(train.images.copy()).to(device)
        self._labels = torch.from_numpy(train.labels.astype(np.int64)).to(device)
        self._mean_and_deviation = mean_and_deviation(train.images, gamma=1)
        self._steps = len(train.images) // recipe.batch_size
        if not self._steps:
            raise TrainingError(f"{len(train.images)} images are fewer than one batch of {recipe.batch_size}")
        networks = []
        with torch.random.fork_rng(devices=[]):
            for seed in seeds:
                torch.manual_seed(seed)
                networks.append(new_network(recipe).to(device))
        self._network = networks[0]
        self._stacks, _ = stack_module_state(networks)
        parameters = [nn.Parameter(stack.detach()) for stack in self._stacks.values()]
        self._stacks = dict(zip(self._stacks, parameters, strict=True))
        self._optimizers = optimizers(recipe, parameters, stacked=True)
        self._averages = [parameter.detach().clone() for parameter in parameters]
        self._epoch = 0
        self._gradients = vmap(grad(self._loss))

    def run_epoch(self) -> None:
        """One pass over the training images, in each seed's own order."""
        recipe, count = self._recipe, len(self._seeds)
        orders, drawn = [], []
        for seed in self._seeds:
            generator = epoch_generator(seed, self._epoch)
            seen = self._steps * recipe.batch_size
            orders.append(torch.randperm(len(self._images), generator=generator)[:seen].view(self._steps, -1))
            moves = draw_moves(seen, flip=recipe.flip, shift=recipe.shift, generator=generator)
            drawn.append(moves.view(self._steps, -1, 3))
        order, moves = torch.stack(orders, 1).to(self._device), torch.stack(drawn, 1).to(self._device)
        mean, deviation = (
            torch.tensor(values, device=self._device)[:, None, None] for values in self._mean_and_deviation
        )
        for step in range(self._steps):
            place = self._epoch * self._steps + step
            share = schedule(recipe, (place + 1) / (recipe.epochs * self._steps))
            chosen = order[step].flatten()
            images = move(self._images[chosen], moves[step].flatten(0, 1))
            images = (images.float() / 255 - mean) / deviation
            stacked = {name: stack.detach() for name, stack in self._stacks.items()}
            gradients = self._gradients(
                stacked, images.unflatten(0, (count, -1)), self._labels[chosen].unflatten(0, (count, -1))
            )
            for name, stack in self._stacks.items():
                stack.grad = gradients[name]
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["highest"] * share
                optimizer.step()
            if recipe.ema_decay:
                average(self._averages, list(self._stacks.values()), recipe, place)
        self._epoch += 1

    def results(self) -> list[Classifier]:
        """Each seed's classifier as it would be kept now, on the CPU."""
        kept = self._averages if self._recipe.ema_decay else [stack.detach() for stack in self._stacks.values()]
        classifiers = []
        for place in range(len(self._seeds)):
            network = new_network(self._recipe)
            state = {name: stack[place].cpu() for name, stack in zip(self._stacks, kept, strict=True)}
            network.load_state_dict(state)
            classifiers.append(Classifier(network, *self._mean_and_deviation).eval())
        return classifiers

    def _loss(self, parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        logits = functional_call(self._network, parameters, images)
        return functional.cross_entropy(logits, labels, label_smoothing=self._recipe.label_smoothing)


def main() -> None:
    """Train so many seeds at once, and print how good they are."""
    name, seeds, epochs = [*sys.argv[1:], *("quick", "32", "")[len(sys.argv) - 1 :]]
    recipe = recipe_named(name, epochs=int(epochs) if epochs else None)
    device = runs.choose_device("auto")
    train, held_out = runs.split(dataset.load().train)
    many = ManySeeds(recipe, train, seeds=range(int(seeds)), device=device)
    started = time.perf_counter()
    for _ in range(recipe.epochs):
        many.run_epoch()
    classifiers = many.results()
    seconds = time.perf_counter() - started
    found = [float((predict(each, held_out.images).argmax(1) == held_out.labels).mean()) for each in classifiers]
    spread = f" ± {statistics.stdev(found):.2%}" if len(found) > 1 else ""
    print(f"{recipe.name}: {statistics.mean(found):.2%}{spread} of the held-out images, {len(found)} seeds at once")
    print(f"{seconds:.1f} s for {recipe.epochs} epochs on {device.type}")


if __name__ == "__main__":
    main()
