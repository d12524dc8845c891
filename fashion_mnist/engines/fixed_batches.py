"""ONNX Runtime at a few batch sizes, each bound once to its own buffers, because on a GPU each new shape costs time."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fashion_mnist.engines import nvidia

SIZES: Final = (1, 8, 32, 128, 512)
"""The batch sizes: a batch is padded to the next one, so that each shape is prepared only once."""

MORE_SIZES: Final = (1024, 2048, 4096)
"""Further sizes, if a larger maximum is requested."""


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """The batch sizes of an engine with the maximum `largest`."""
    return (*(size for size in (*SIZES, *MORE_SIZES) if size < largest), largest)


class FixedBatches:
    """Runs a session on any number of images, in batches of the bound sizes."""

    def __init__(
        self, session: onnxruntime.InferenceSession, sizes: Sequence[int], device: str, device_id: int, *, graphs: bool
    ) -> None:
        """`device` is where the session computes, "cuda" or "cpu"; `graphs` is whether it captures CUDA graphs.

        Each size is run once, which allocates its memory and captures its graph. Raises ONNX Runtime's exceptions.
        """
        self._batches = [_FixedBatch(session, size, device, device_id, graphs=graphs) for size in sorted(sizes)]
        self.largest = self._batches[-1].size
        for batch in self._batches:
            batch.run(batch.images)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, classes], of images, uint8 [n, c, h, w], with 1 <= n <= `largest`."""
        return next(batch for batch in self._batches if batch.size >= len(images)).run(images)


class _FixedBatch:
    """One batch size: page-locked host buffers for input and output, and an input buffer on the device."""

    def __init__(
        self, session: onnxruntime.InferenceSession, size: int, device: str, device_id: int, *, graphs: bool
    ) -> None:
        self.size = size
        self._session = session
        (taken,), (given,) = session.get_inputs(), session.get_outputs()
        self.images = np.zeros((size, *taken.shape[1:]), np.uint8)
        self._probabilities = np.zeros((size, *given.shape[1:]), np.float32)
        if device == "cuda":
            for buffer in (self.images, self._probabilities):
                nvidia.page_lock(buffer, onnxruntime.cuda_version or "")
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(self.images, device, device_id)
        self._output: onnxruntime.OrtValue | None = None
        self._options = onnxruntime.RunOptions()
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("images", self._input)
        if graphs:
            # A graph is replayed with the addresses of its capture, all on the device; each size has its own graph.
            self._options.add_run_config_entry("gpu_graph_id", str(size))
            shape = self._probabilities.shape
            self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, device_id)
            self._binding.bind_ortvalue_output("probabilities", self._output)
        else:
            # The output is written to the page-locked buffer directly.
            self._binding.bind_output(
                "probabilities", "cpu", 0, np.float32, self._probabilities.shape, self._probabilities.ctypes.data
            )

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(images)
        # Images of an earlier batch after `count` are computed again and ignored.
        self.images[:count] = images
        self._input.update_inplace(self.images)
        self._session.run_with_iobinding(self._binding, self._options)
        probabilities = self._probabilities if self._output is None else self._output.numpy()
        return probabilities[:count].copy()
