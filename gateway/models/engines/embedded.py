"""The model in the gateway's own process, without Java, torch or a second process."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import Unavailable
from fashion_mnist.predictions import Probabilities
from fashion_mnist.settings import Settings

AT_ONCE: Final = 64
"""Batches of up to this many images are computed on the event loop: they take 0.65 ms, a thread would add 0.05 ms."""

CPU_BATCH: Final = 256
"""The maximum batch on the CPU; on a GPU it is the setting `max_gpu_batch`."""


class EmbeddedEngine:
    """ONNX Runtime or TorchScript in this process. See `gateway.models.engines.Backend`."""

    def __init__(self, settings: Settings, model_store: Path) -> None:
        """Load the model and warm it up, which takes half a second. Raises ModelError, DeviceUnavailable."""
        self._engine = open_engine(
            model_store,
            settings.runtime,
            settings.device,
            threads=settings.threads,
            max_gpu_batch=settings.max_gpu_batch,
            cuda_graphs=settings.cuda_graphs == "on",
        )
        self.max_batch = settings.max_gpu_batch if "cuda" in self._engine.provider.lower() else CPU_BATCH
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._in_thread = 0
        self._timeout_s = settings.engine_timeout_s

    def wants(self, in_flight: int, waiting: int) -> bool:
        return in_flight == 0

    async def predict(self, images: Pixels) -> Probabilities:
        if len(images) <= AT_ONCE and not self._in_thread:
            return self._engine.predict(images)
        # ONNX Runtime releases the GIL while it computes, so that other requests are received meanwhile.
        computing = asyncio.get_running_loop().run_in_executor(self._thread, self._engine.predict, images)
        self._in_thread += 1
        computing.add_done_callback(self._leave_thread)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(computing)
        except TimeoutError:
            raise Unavailable(f"the engine did not answer within {self._timeout_s} s: retry") from None

    def _leave_thread(self, _: object) -> None:
        self._in_thread -= 1

    async def close(self) -> None:
        self._thread.shutdown()
