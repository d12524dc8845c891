"""The TorchScript engine."""

import logging
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fashion_mnist.classes import CLASSES, GEOMETRY
from fashion_mnist.errors import DeviceUnavailable, ModelError

log = logging.getLogger(__name__)

_CHUNK: Final = 512
_WARM_UP: Final = 3
"""TorchScript profiles its first runs and compiles on one of the next; requests should not wait for that."""


class TorchScriptEngine:
    """A model.torchscript.pt in libtorch. See `fashion_mnist.engines.Engine`."""

    name = "torchscript"

    def __init__(self, path: Path, device: str, *, threads: int, gpu_id: int | None) -> None:
        self._device = _device(device, gpu_id)
        if self._device.type == "cpu":
            torch.set_num_threads(threads)
        self.provider = str(self._device)
        try:
            with warnings.catch_warnings():
                # torch 2.13 deprecates TorchScript; the file format is what this engine is for.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._model = torch.jit.load(str(path), map_location=self._device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{path} cannot be loaded: {str(error)[:200]}; run `fashion-mnist export`") from None
        image = np.zeros((1, GEOMETRY.height, GEOMETRY.width), np.uint8)
        try:
            probabilities = [self.predict(image) for _ in range(_WARM_UP)][-1]
        except RuntimeError as error:
            raise ModelError(f"{path} does not take uint8 [n, 1, 28, 28]: {str(error)[-200:]}") from None
        if probabilities.shape != (1, len(CLASSES)):
            raise ModelError(f"{path} gives {list(probabilities.shape)} instead of [n, {len(CLASSES)}] probabilities")

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, 10], of images, uint8 [n, 28, 28]."""
        if not len(images):
            return np.empty((0, len(CLASSES)), np.float32)
        with torch.inference_mode():
            # A copy where the pixels are a view of a request's bytes: torch refuses memory that it may not write.
            batch = torch.from_numpy(np.require(images, requirements=["C", "W"])[:, None])
            if self._device.type == "cuda":
                batch = batch.pin_memory()
            chunks = [self._model(chunk.to(self._device, non_blocking=True)) for chunk in batch.split(_CHUNK)]
            probabilities: NDArray[np.float32] = torch.cat(chunks).cpu().numpy()
            return probabilities


def _device(device: str, gpu_id: int | None) -> torch.device:
    if device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", gpu_id or 0)
    reason = (
        "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no NVIDIA GPU or driver"
    )
    if device == "cuda":
        raise DeviceUnavailable(f"{reason}: choose device cpu or auto, or set up with `WHEELS=cuda make setup`")
    log.warning("device auto: computing on the CPU, because %s", reason)
    return torch.device("cpu")
