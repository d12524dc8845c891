"""The TorchScript engine."""

import logging
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fashion_mnist.engines import nvidia
from fashion_mnist.errors import DeviceUnavailable, ModelError
from fashion_mnist.task import Task

log = logging.getLogger(__name__)

_CPU_CHUNK: Final = 512
_WARM_UP: Final = 3
"""Runs before serving, because TorchScript profiles its first runs and then compiles."""


class TorchScriptEngine:
    """A model.torchscript.pt in libtorch. See `fashion_mnist.engines.Engine`."""

    name = "torchscript"

    def __init__(
        self, path: Path, device: str, *, task: Task, threads: int, gpu_id: int | None, max_gpu_batch: int
    ) -> None:
        """`max_gpu_batch` is the maximum of images of one run on a GPU."""
        self._task = task
        if device == "cpu" or not self._load_onto_gpu(path, gpu_id or 0, max_gpu_batch, required=device == "cuda"):
            torch.set_num_threads(threads)
            self._load(path, torch.device("cpu"), _CPU_CHUNK)
        self.provider = str(self._device)

    def _load_onto_gpu(self, path: Path, gpu_id: int, max_gpu_batch: int, *, required: bool) -> bool:
        """Whether it could be loaded onto the GPU. Raises DeviceUnavailable if not, and `required`."""
        try:
            _check_gpu(gpu_id)
            # TF32's ten bits of mantissa could change the label of an image between two classes.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            try:
                self._load(path, torch.device("cuda", gpu_id), max_gpu_batch)
            except ModelError as error:
                # If the file is at fault, loading it on the CPU, which is next, fails, too.
                raise DeviceUnavailable(f"the model cannot be loaded onto GPU {gpu_id}: {error.message}") from None
        except DeviceUnavailable as error:
            if required:
                raise
            log.warning("device auto: computing on the CPU, because %s", error.message)
            return False
        return True

    def _load(self, path: Path, device: torch.device, chunk: int) -> None:
        """Load the file onto a device, and warm it up there. Raises ModelError."""
        self._device, self._chunk = device, chunk
        try:
            with warnings.catch_warnings():
                # torch 2.13 deprecates TorchScript, which is this engine's file format.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._model = torch.jit.load(str(path), map_location=self._device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{path} cannot be loaded: {str(error)[:200]}; run `fashion-mnist export`") from None
        image = np.zeros((1, *self._task.geometry), np.uint8)
        try:
            probabilities = [self.predict(image) for _ in range(_WARM_UP)][-1]
        except RuntimeError as error:
            raise ModelError(f"{path} takes no images of {self._task.geometry}, uint8: {str(error)[-200:]}") from None
        if probabilities.shape != (1, len(self._task.classes)):
            raise ModelError(
                f"{path} returns {list(probabilities.shape)} instead of [n, {len(self._task.classes)}] probabilities"
            )

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, classes], of images, uint8 [n, channels, height, width]."""
        if not len(images):
            return np.empty((0, len(self._task.classes)), np.float32)
        with torch.inference_mode():
            # A copy if the pixels are a read-only view of a request's bytes, which torch refuses.
            batch = torch.from_numpy(np.require(images, requirements=["C", "W"]))
            if self._device.type == "cuda":
                batch = batch.pin_memory()
            chunks = [self._model(chunk.to(self._device, non_blocking=True)) for chunk in batch.split(self._chunk)]
            probabilities: NDArray[np.float32] = torch.cat(chunks).cpu().numpy()
            return probabilities


def _check_gpu(gpu_id: int) -> None:
    """Raise DeviceUnavailable, with the reason, if torch has no such GPU."""
    if torch.version.cuda is None:
        raise DeviceUnavailable(
            "this torch was built without CUDA: choose device cpu or auto, or set up with `WHEELS=cuda make setup`"
        )
    nvidia.check_gpu(gpu_id)
    if torch.cuda.device_count() <= gpu_id:
        raise DeviceUnavailable(
            f"torch finds no GPU {gpu_id}: compare the CUDA version that it was built for with the driver's"
        )
