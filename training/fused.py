"""Both convolutions, forward and backward, in one pass over each image: fused.cpp, compiled for this processor.

On one core of an AMD EPYC (Zen 3) a training step takes a fifth of what PyTorch's own operations take; figures in
EXPERIMENTS.md. Gradients are those of PyTorch's operations up to rounding, and the same for any number of threads,
because a batch is always divided into the same chunks.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from fashion_mnist.data.dataset import cache_folder
from fashion_mnist.errors import TrainingError
from fashion_mnist.network import Classifier, Network
from fashion_mnist.task import FASHION_MNIST

_log: Final = logging.getLogger(__name__)

SOURCE: Final = Path(__file__).with_name("fused.cpp")
FLAGS: Final = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-shared", "-fPIC")
DEADLINE_S: Final = 120
"""Seconds for the compiler, which takes two."""

_CHUNK: Final = 64
"""Images that one thread takes at a time. Their sums are added in order: another value would round otherwise."""

_POSITIONS1: Final = 12 * 12
_POSITIONS2: Final = 4 * 4
"""Of a map after each convolution and its pooling."""


def unavailable(network: nn.Module, device: torch.device) -> str | None:
    """Why these kernels cannot train `network` on `device`, or None where they can.

    They are compiled and loaded here, so that whatever prevents this is known before the first step; a line of the log
    says it, because training without them takes much longer.
    """
    if device.type != "cpu":
        return "they are for the CPU"
    if not isinstance(network, Network):
        return "they know the released network's layers"
    if network.activation_name != "relu":
        return f"they know ReLU, and the recipe's activation is {network.activation_name}"
    filters = [layer.out_channels for layer in (network.conv1, network.conv2)]
    if any(count % 6 for count in filters):
        return f"they take filters by sixes, and the convolutions have {filters[0]} and {filters[1]}"
    if network.conv1.kernel_size != (5, 5) or network.geometry != FASHION_MNIST.geometry:
        return f"they are written for 5 x 5 kernels and images of {FASHION_MNIST.geometry}"
    if reason := _unusable(*filters):
        _log.warning("the fused kernels, which are faster, cannot be used: %s", reason)
    return reason


def features(
    images: Tensor, chosen: Tensor, moves: Tensor, classifier: Classifier, pool: ThreadPoolExecutor | None = None
) -> Tensor:
    """The flattened maps after both convolutions, float32 [n, 192], of `images[chosen]`, each moved by its row.

    Takes images, uint8 [all, 1, 28, 28], chosen, int64 [n], moves, int8 [n, 3] as `training.augment` draws them; all
    contiguous and on the CPU. `pool` shares the work; without it the calling thread does it.
    """
    network = classifier.network
    assert isinstance(network, Network)
    levels = classifier.normalise(torch.arange(256, dtype=torch.uint8)).flatten()
    weights = (network.conv1.weight, network.conv1.bias, network.conv2.weight, network.conv2.bias)
    each: Callable[..., Any] = map if pool is None else pool.map
    found: Tensor = _Features.apply(images, chosen, moves, levels, each, *weights)  # type: ignore[no-untyped-call]
    return found


class _Features(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        images: Tensor,
        chosen: Tensor,
        moves: Tensor,
        levels: Tensor,
        each: Callable[..., Any],
        *weights: Tensor,
    ) -> Tensor:
        conv1, conv2, count = weights[0], weights[2], len(chosen)
        kernels = _kernels(len(conv1), len(conv2))
        kept = [
            torch.empty(count, len(conv2) * _POSITIONS2),
            torch.empty(count, len(conv1) * _POSITIONS1),
            torch.empty(count, len(conv1) * _POSITIONS1, dtype=torch.int8),
            torch.empty(count, len(conv2) * _POSITIONS2, dtype=torch.int8),
        ]

        def run(start: int) -> None:
            rows = slice(start, start + _CHUNK)
            parts = [tensor[rows] for tensor in (chosen, moves, *kept)]
            kernels.forward(
                _pointer(images), _pointer(parts[0]), _pointer(parts[1]), len(parts[0]), _pointer(levels),
                *map(_pointer, weights), *map(_pointer, parts[2:]),
            )  # fmt: skip

        list(each(run, range(0, count, _CHUNK)))
        context.save_for_backward(images, chosen, moves, conv2, *kept)
        context.rest = levels, each, [weight.shape for weight in weights]
        return kept[0]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, chosen, moves, conv2, *kept = context.saved_tensors
        levels, each, shapes = context.rest
        kernels = _kernels(shapes[0][0], len(conv2))
        gradient = gradients[0].contiguous()
        starts = range(0, len(chosen), _CHUNK)
        sums = [torch.empty(len(starts), *shape) for shape in shapes]

        def run(number: int) -> None:
            rows = slice(number * _CHUNK, (number + 1) * _CHUNK)
            parts = [tensor[rows] for tensor in (chosen, moves, *kept, gradient)]
            kernels.backward(
                _pointer(images), _pointer(parts[0]), _pointer(parts[1]), len(parts[0]), _pointer(levels),
                _pointer(conv2), *map(_pointer, parts[2:]), *(_pointer(one[number]) for one in sums),
            )  # fmt: skip

        list(each(run, range(len(starts))))
        return (None,) * 5 + tuple(one.sum(0) for one in sums)


def _pointer(tensor: Tensor) -> int:
    return tensor.data_ptr()


def _unusable(conv1_out: int, conv2_out: int) -> str | None:
    """What is wrong with the compiler, the cache or what was compiled; None where the kernels can be called."""
    if _compiler() is None:
        return "there is no C++ compiler: install g++"
    try:
        _kernels(conv1_out, conv2_out)
    except TrainingError as error:
        return error.message
    except OSError as error:  # of a cache that is unwritable or full, or whose files may not be executed
        return f"{error.filename}: {error.strerror}" if error.filename else " ".join(str(error).split())
    except (AttributeError, RuntimeError) as error:  # of a library without our functions, of a user without a home
        return " ".join(str(error).split())
    return None


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


@functools.cache
def _kernels(conv1_out: int, conv2_out: int) -> ctypes.CDLL:
    """The kernels for so many filters: compiled when first needed on a machine, then taken from the user's cache."""
    compiler = _compiler()
    assert compiler is not None
    flags = [*FLAGS, f"-DCONV1_OUT={conv1_out}", f"-DCONV2_OUT={conv2_out}"]
    # What -march=native stands for differs from machine to machine, and a cache may be shared by several.
    target = _run([compiler, "-march=native", "-Q", "--help=target"])
    key = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), target, *map(str.encode, (compiler, *flags))])).hexdigest()
    cache = cache_folder()
    library = cache / f"fused-{key[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            built = Path(folder) / library.name
            _run([compiler, *flags, str(SOURCE), "-o", str(built)])
            built.replace(library)
    kernels = ctypes.CDLL(str(library))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    batch = (pointer, pointer, pointer, number, pointer)
    kernels.forward.argtypes = [*batch, *(pointer,) * 8]
    kernels.backward.argtypes = [*batch, *(pointer,) * 10]
    kernels.forward.restype = kernels.backward.restype = None
    return kernels


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise TrainingError(f"{command[0]} did not end within {DEADLINE_S} s") from None
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"{command[0]} cannot compile {SOURCE.name} ({last})")
    return done.stdout
