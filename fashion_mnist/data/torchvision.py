"""torchvision beside a CPU build of torch, and its download of the data set.

PyPI's torchvision is built for CUDA. Beside torch's CPU build its compiled operators cannot be loaded, and
`import torchvision` then fails, because it refers to two undefined operators. Its data sets and transforms need no
operators: defining these two by name makes the import work.
"""

from pathlib import Path
from types import ModuleType
from typing import Final

import torch

from fashion_mnist.errors import DatasetError

_NMS: Final = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """Import torchvision so that it works beside any build of torch."""
    if torch.version.cuda is None:
        for operator in ("torchvision::nms", "torchvision::qnms"):
            try:
                torch.library.define(operator, _NMS)
            except RuntimeError:  # defined already, by an earlier call or by a matching torchvision
                break
    import torchvision

    module: ModuleType = torchvision
    return module


def download(folder: Path) -> None:
    """Let torchvision fetch the four files to `folder`/FashionMNIST/raw, with its progress bar. Raises DatasetError."""
    import_torchvision()
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"the data set could not be downloaded ({error}): `apt-get install dataset-fashion-mnist`, or name the "
            "folder that holds its four files with --data or FASHION_MNIST_DATA"
        ) from None
