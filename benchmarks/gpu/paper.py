"""What a card can do at most, on paper: from its data sheet and the network's own sizes.

    python -m benchmarks.gpu.paper

prints the tables of docs/how-to/gpu.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.report import markdown_table
from fashion_mnist.classes import CLASSES, GEOMETRY
from fashion_mnist.network import POOL, Network

BATCH: Final = 4096
KERNELS: Final = 9
"""Kernels of one run: cast, two convolutions with their ReLU, two pools, three products, softmax."""
LAUNCH_US: Final = 3.0
"""From one launch to the next, without a graph: some microseconds on any card."""
FLOAT_BYTES: Final = 4


@dataclass(frozen=True)
class Card:
    """A card's data sheet: dense rates in TFLOP/s, bytes a second of its memory, and of PCIe in one direction."""

    name: str
    fp32: float
    tf32: float
    memory: float
    pcie: float


CARDS: Final = (
    Card("H100 SXM", fp32=67, tf32=494.5, memory=3.35e12, pcie=64e9),
    Card("H200 SXM", fp32=67, tf32=494.5, memory=4.8e12, pcie=64e9),
)


@dataclass(frozen=True)
class Layer:
    """One kernel, by image: what it computes, and the bytes that it reads and writes; weights stay in the cache."""

    name: str
    flops: int
    read: int
    written: int


def layers() -> list[Layer]:
    """The released network's."""
    network = Network()
    pixels = math.prod(GEOMETRY)
    found = [Layer("cast to float32", 0, pixels, pixels * FLOAT_BYTES)]
    side, values = GEOMETRY.height, pixels
    for name, convolution in (("conv1", network.conv1), ("conv2", network.conv2)):
        side -= convolution.kernel_size[0] - 1
        maps = convolution.out_channels * side**2
        per_value = 2 * convolution.in_channels * math.prod(convolution.kernel_size)
        found.append(Layer(f"{name}, ReLU", maps * per_value, values * FLOAT_BYTES, maps * FLOAT_BYTES))
        side //= POOL
        values = convolution.out_channels * side**2
        found.append(Layer(f"{name}, pool", 0, maps * FLOAT_BYTES, values * FLOAT_BYTES))
    for name, linear in (("fc1", network.fc1), ("fc2", network.fc2), ("out", network.out)):
        sizes = linear.in_features, linear.out_features
        found.append(Layer(name, 2 * math.prod(sizes), sizes[0] * FLOAT_BYTES, sizes[1] * FLOAT_BYTES))
    return [*found, Layer("softmax", 0, len(CLASSES) * FLOAT_BYTES, len(CLASSES) * FLOAT_BYTES)]


def tables() -> str:
    """Both tables, as Markdown."""
    found = layers()
    total = Layer("**all**", *(sum(getattr(each, field) for each in found) for field in ("flops", "read", "written")))
    sizes = markdown_table(
        ["kernel", "FLOP an image", "bytes read", "bytes written"],
        [[each.name, *(f"{value:,}" for value in (each.flops, each.read, each.written))] for each in [*found, total]],
    )
    limits: dict[str, Callable[[Card], float]] = {
        "arithmetic in FP32": lambda card: card.fp32 * 1e12 / total.flops,
        "arithmetic in TF32": lambda card: card.tf32 * 1e12 / total.flops,
        "memory, if every kernel goes through it": lambda card: card.memory / (total.read + total.written),
        "PCIe, pixels to the card": lambda card: card.pcie / math.prod(GEOMETRY),
        f"launches, batches of {BATCH:,}": lambda _: BATCH / (KERNELS * LAUNCH_US * 1e-6),
        "launches, one image at a time": lambda _: 1 / (KERNELS * LAUNCH_US * 1e-6),
    }
    heading = ["at most, million images/s", *(card.name for card in CARDS)]
    rows = [[name, *(_millions(limit(card)) for card in CARDS)] for name, limit in limits.items()]
    return "\n".join([*sizes, "", *markdown_table(heading, rows)])


def _millions(per_second: float) -> str:
    return f"{per_second / 1e6:,.{0 if per_second >= 1e7 else 2}f}"


if __name__ == "__main__":
    print(tables())
