"""The network, and the classifier that wraps it for inference."""

import importlib.util
import inspect
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashion_mnist.errors import FashionMNISTError, ModelError, UsageError
from fashion_mnist.system import atomic
from fashion_mnist.task import CARD_SECTION, FASHION_MNIST, Geometry, Task

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"relu": nn.ReLU, "gelu": nn.GELU}
VIEWS: Final[dict[str, tuple[tuple[bool, int], ...]]] = {
    "one": ((False, 0),),
    "mirror": ((False, 0), (True, 0)),
    "mirror-and-pixel": ((False, -1), (False, 1), (True, -1), (True, 1)),
}
"""By name, the views of an image over which a classifier averages: mirrored or not, and pixels to the right."""
NetworkClass: TypeAlias = Callable[..., nn.Module]
"""What makes a network: float32 [n, channels, height, width] -> logits, float32 [n, classes]."""

POOL: Final = 2
"""The side of the max-pooling window, and its stride."""


class Network(nn.Module):
    """Two convolutions and three linear layers: float32 [n, channels, height, width] -> logits, float32 [n, classes].

    Without arguments it is the released network, with 32,998 parameters. Hyperparameters are arguments; dimensions that
    follow from the data or from the previous layer are derived. Raises UsageError if the maps shrink to nothing.
    """

    def __init__(
        self,
        geometry: Geometry = FASHION_MNIST.geometry,
        classes: int = len(FASHION_MNIST.classes),
        *,
        conv1_out: int = 6,
        conv2_out: int = 12,
        kernel_size: int = 5,
        fc1_out: int = 120,
        fc2_out: int = 60,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.arguments = {
            "conv1_out": conv1_out,
            "conv2_out": conv2_out,
            "kernel_size": kernel_size,
            "fc1_out": fc1_out,
            "fc2_out": fc2_out,
            "activation": activation,
        }
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation is {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        self.geometry = geometry
        self.activation_name = activation
        self.conv1 = nn.Conv2d(geometry.channels, conv1_out, kernel_size)
        self.conv2 = nn.Conv2d(self.conv1.out_channels, conv2_out, kernel_size)
        height, width = geometry.height, geometry.width
        for name in ("conv1", "conv2"):
            height, width = (size - kernel_size + 1 for size in (height, width))
            if min(height, width) < POOL:
                raise UsageError(
                    f"images of {geometry.height} x {geometry.width} are too small: {name} with its "
                    f"{kernel_size} x {kernel_size} kernels leaves {max(height, 0)} x {max(width, 0)}, but pooling "
                    f"needs {POOL} x {POOL}; use larger images or a smaller kernel_size"
                )
            height, width = height // POOL, width // POOL
        self.fc1 = nn.Linear(self.conv2.out_channels * height * width, fc1_out)
        self.fc2 = nn.Linear(self.fc1.out_features, fc2_out)
        self.out = nn.Linear(self.fc2.out_features, classes)
        self.pool = nn.MaxPool2d(POOL)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of normalised images, float32 [n, channels, height, width]."""
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """The second convolution's pooled maps, flattened: float32 [n, fc1's in_features]."""
        maps = self.pool(self.activation(self.conv1(images)))
        maps = self.pool(self.activation(self.conv2(maps)))
        features: Tensor = maps.flatten(1)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits, float32 [n, classes], of `features`: the linear layers."""
        features = self.activation(self.fc1(features))
        logits: Tensor = self.out(self.activation(self.fc2(features)))
        return logits


class Classifier(nn.Module):
    """The exported module: uint8 [n, channels, height, width] -> probabilities, float32 [n, classes].

    It scales pixels to 0..1, raises them to the power `gamma`, normalises by each channel's `mean` and `std`, averages
    the log-probabilities of augmented `views` of an image, and applies the calibration `temperature` and softmax.
    """

    gamma: Tensor
    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(
        self,
        network: Network,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        temperature: float = 1.0,
        *,
        gamma: float = 1.0,
        task: Task = FASHION_MNIST,
    ) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.views = "one"
        self.register_buffer("gamma", torch.tensor(gamma))
        self.register_buffer("mean", _by_channel(mean, task))
        self.register_buffer("std", _by_channel(std, task))
        self.register_buffer("temperature", torch.tensor(temperature))

    def normalise(self, images: Tensor) -> Tensor:
        """The network's input from uint8 images: float32, with mean 0 and standard deviation 1 over the data set."""
        return ((images.float() / 255) ** self.gamma - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities, float32 [n, classes], of images, uint8 [n, channels, height, width]."""
        logits = self.network(self.normalise(views_of(images, self.views)))
        return torch.softmax(mean_of_views(logits, self.views) / self.temperature, dim=1)


def _by_channel(value: float | Sequence[float], task: Task) -> Tensor:
    """float32 [channels, 1, 1]."""
    values = torch.tensor(value, dtype=torch.float32)
    return values.reshape(-1, 1, 1).expand(task.geometry.channels, 1, 1).clone()


def views_of(images: Tensor, name: str) -> Tensor:
    """The augmented views `name` of images [n, channels, height, width], concatenated: [views * n, ...]; shifted edges
    are black."""
    if name == "one":
        return images
    mirrored = images.flip(-1)
    return torch.cat(
        [
            functional.pad(mirrored if flip else images, (right, -right)) if right else mirrored if flip else images
            for flip, right in VIEWS[name]
        ]
    )


def mean_of_views(logits: Tensor, name: str) -> Tensor:
    """The mean of the augmented views' logits [views * n, classes]: float32 [n, classes].

    Its softmax equals that of the mean log-probabilities, which differ by a constant for all classes.
    """
    return logits if name == "one" else logits.unflatten(0, (len(VIEWS[name]), -1)).mean(0)


def new_network(network_class: NetworkClass, task: Task) -> nn.Module:
    """A network for a task, which is asked for by what its constructor's parameters are called.

    These are `geometry`, `channels` or `in_channels`, `height`, `width`, and `classes` or `num_classes`; others must
    have defaults. Raises UsageError for a class that cannot be made so, or whose network gives no logits.
    """
    channels, height, width = task.geometry
    known = {
        "geometry": task.geometry,
        "channels": channels,
        "in_channels": channels,
        "height": height,
        "width": width,
        "classes": len(task.classes),
        "num_classes": len(task.classes),
    }
    name = getattr(network_class, "__name__", str(network_class))
    try:
        parameters = inspect.signature(network_class).parameters
        network = network_class(**{name: known[name] for name in parameters if name in known})
        with torch.inference_mode():
            logits = network.eval()(torch.zeros(2, *task.geometry))
    except FashionMNISTError:
        raise
    except Exception as error:
        # Whatever a class of somebody's own raises.
        reason = f"{type(error).__name__}: {str(error).strip()[:200]}"
        raise UsageError(
            f"{name} cannot be used for images of {task.geometry} ({reason}): its constructor may take "
            f"{', '.join(known)}, and other parameters need defaults"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape != (2, len(task.classes)):
        shape = list(logits.shape)[1:] if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"{name} gives {shape} for an image, and {len(task.classes)} logits are needed, one a class")
    return network


def load_class(spec: str) -> NetworkClass:
    """The class that `FILE.py:CLASS` names, from a file that is executed. Raises UsageError."""
    file, separator, name = spec.rpartition(":")
    if not separator or not name.isidentifier():
        raise UsageError(f"{spec!r} names no class: write it as FILE.py:CLASS, such as my_network.py:MyNetwork")
    module_spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    try:
        if module_spec is None or module_spec.loader is None:
            raise ImportError("it is no Python file")
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[module_spec.name] = module
        module_spec.loader.exec_module(module)
        found = getattr(module, name, None)
    except Exception as error:
        # Whatever a file of somebody's own raises.
        raise UsageError(f"{file} cannot be loaded ({type(error).__name__}: {str(error)[:200]})") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UsageError(f"{file} has no torch.nn.Module named {name}")
    return found


def save_weights(classifier: Classifier, path: Path) -> None:
    """Write a classifier to `path`, atomically: its state dict and task, its network's class and arguments."""
    # Into memory first: torch writes the name of its file into it, and the same weights should give the same bytes.
    content = io.BytesIO()
    network = classifier.network
    arguments = network.arguments if isinstance(network, Network) else {}
    kept = {"task": classifier.task.to_card(), "network": type(network).__name__, "arguments": arguments}
    torch.save({**kept, "state_dict": classifier.state_dict()}, content)
    atomic.write_bytes(path, content.getvalue())


def load_weights(path: Path, network_class: NetworkClass | None = None) -> Classifier:
    """The classifier that `save_weights` wrote, in evaluation mode, on the CPU.

    `network_class` makes the network where that is not `Network`. The file is loaded with `weights_only=True`: it
    cannot run code. Raises ModelError where it is missing, damaged or another network's.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        task = Task.from_card({CARD_SECTION: content["task"]})
        name = content["network"]
        if network_class is not None:
            network = cast(Network, new_network(network_class, task))
        elif name == Network.__name__:
            network = Network(task.geometry, len(task.classes), **content["arguments"])
        else:
            raise ModelError(f"it is of the network {name}: name its class, as in --network FILE.py:{name}")
        classifier = Classifier(network, mean=0.0, std=1.0, task=task)
        classifier.load_state_dict(content["state_dict"])
    except UsageError:
        raise
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist: train it with `fashion-mnist train`") from None
    except Exception as error:
        # torch.load raises many kinds of exceptions.
        reason = str(error).strip().partition("\n")[0][:200]
        raise ModelError(f"{path} has no weights of this network ({reason}): train it again or restore it") from None
    return classifier.eval()
