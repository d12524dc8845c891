"""The ONNX Runtime engine."""

import contextlib
import io
import logging
import re
import sys
import time
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fashion_mnist.engines import nvidia
from fashion_mnist.engines.fixed_batches import SIZES, FixedBatches, sizes_up_to
from fashion_mnist.errors import DeviceUnavailable, ModelError
from fashion_mnist.task import Task

log = logging.getLogger(__name__)

CPU_CHUNK: Final = 64
"""Images per run on the CPU, few enough for the cache: 10.2 us per image, instead of 13.2 us at 1,024."""

WARM_UP_S: Final = 0.5
"""After this time no further batch size is warmed up, which large networks reach with the first."""

Provider: TypeAlias = str | tuple[str, dict[str, str]]
"""A provider's name, and its options."""

_ERRORS: Final = 3
"""The minimum severity of ONNX Runtime's messages on stderr."""

_CUDA_FAILURE: Final = re.compile(
    r"(CUDA|CUDNN|CUBLAS)[A-Z_]* (failure|error) [^;]*|[Ff]ailed to allocate memory[^\n]*"
)


class OnnxEngine:
    """A model.onnx in ONNX Runtime. See `fashion_mnist.engines.Engine`."""

    name = "onnx"

    def __init__(
        self,
        path: Path,
        device: str,
        *,
        task: Task,
        threads: int,
        gpu_id: int | None,
        max_gpu_batch: int = SIZES[-1],
        cuda_graphs: bool = False,
        fixed_batches: bool = False,
    ) -> None:
        """`max_gpu_batch` is the maximum of images of one run on a GPU; with `cuda_graphs` it replays CUDA graphs.

        `fixed_batches` also uses fixed batch sizes on the CPU, as on a GPU, which is for tests only.
        """
        self._fixed: FixedBatches | None = None
        if device != "cpu":
            try:
                self._session = _cuda_session(path, task, gpu_id or 0, cuda_graphs=cuda_graphs)
                self._fixed = _on_gpu(self._session, max_gpu_batch, gpu_id or 0, cuda_graphs=cuda_graphs)
            except DeviceUnavailable as error:
                if device == "cuda":
                    raise
                log.warning("device auto: computing on the CPU, because %s", error.message)
        self.provider = "CPUExecutionProvider" if self._fixed is None else "CUDAExecutionProvider"
        if self._fixed is None:
            self._session = open_session(path, threads)
            _check_graph(path, task, self._session)
        if fixed_batches and self._fixed is None:
            self._fixed = FixedBatches(self._session, sizes_up_to(max_gpu_batch), "cpu", 0, graphs=cuda_graphs)
        self._chunk = CPU_CHUNK if self._fixed is None else self._fixed.largest
        started = time.monotonic()
        for size in SIZES:
            self.predict(np.zeros((size, *task.geometry), np.uint8))
            if time.monotonic() - started > WARM_UP_S:
                break

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, classes], of images, uint8 [n, channels, height, width]."""
        chunk = self._chunk
        if len(images) <= chunk:
            return self._run(images)
        return np.concatenate([self._run(images[start : start + chunk]) for start in range(0, len(images), chunk)])

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._fixed is not None and len(images):
            return self._fixed.run(images)
        outputs: list[NDArray[np.float32]] = self._session.run(["probabilities"], {"images": images})
        return outputs[0]


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS
    # Spinning threads would take CPU time from TorchServe and the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(
    path: Path, options: onnxruntime.SessionOptions, providers: list[Provider]
) -> onnxruntime.InferenceSession:
    # With `enable_fallback` a failing provider would be replaced by the CPU's, with only a message on stdout.
    return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=False)


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU for any graph. Raises ModelError."""
    try:
        return _session(path, _options(threads), ["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's exceptions share no base class.
        raise ModelError(f"{path} cannot be loaded: {str(error)[:200]}; run `fashion-mnist export`") from None


def _cuda_session(path: Path, task: Task, gpu_id: int, *, cuda_graphs: bool) -> onnxruntime.InferenceSession:
    """A session on the GPU, and only there. Raises DeviceUnavailable with the reason.

    ONNX Runtime falls back to the CPU silently, so each step is checked.
    """
    nvidia.check_gpu(gpu_id)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DeviceUnavailable("this onnxruntime has no CUDA provider: set up with `WHEELS=cuda make setup`")
    onnxruntime.set_default_logger_severity(_ERRORS)
    load_cuda()
    # TF32's ten bits of mantissa could change the label of an image between two classes.
    chosen = {"device_id": str(gpu_id), "use_tf32": "0", "enable_cuda_graph": "1" if cuda_graphs else "0"}
    try:
        session = _session(path, _options(threads=1), [("CUDAExecutionProvider", chosen), "CPUExecutionProvider"])
    except Exception as error:
        # If the file is at fault, loading it on the CPU, which is next, fails, too.
        raise DeviceUnavailable(f"{path} cannot be loaded onto GPU {gpu_id}: {_reason(error)}") from None
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise DeviceUnavailable(
            f"ONNX Runtime could not start its CUDA provider on GPU {gpu_id}: compare the CUDA and cuDNN versions that "
            "it needs with those installed (`WHEELS=cuda make setup` installs matching ones)"
        )
    _check_graph(path, task, session)
    return session


def load_cuda() -> None:
    """Load the CUDA libraries that ONNX Runtime links to, from their wheels, unless PyTorch has loaded them."""
    torch = sys.modules.get("torch")
    if torch is None or torch.version.cuda is None:
        # It prints missing libraries to stdout; the session reports them, too.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def _on_gpu(
    session: onnxruntime.InferenceSession, max_gpu_batch: int, gpu_id: int, *, cuda_graphs: bool
) -> FixedBatches:
    """The batches of a session on a GPU. Raises DeviceUnavailable if it cannot compute, such as for lack of memory."""
    try:
        return FixedBatches(session, sizes_up_to(max_gpu_batch), "cuda", gpu_id, graphs=cuda_graphs)
    except Exception as error:
        raise DeviceUnavailable(
            f"GPU {gpu_id} cannot compute ({_reason(error)}): check with `nvidia-smi` what else uses it"
        ) from None


def _reason(error: Exception) -> str:
    """The message of an exception of the CUDA provider, without source locations."""
    found = _CUDA_FAILURE.search(str(error))
    return found[0].strip() if found else str(error)[:200]


def _check_graph(path: Path, task: Task, session: onnxruntime.InferenceSession) -> None:
    """Raise ModelError if the file is a model of another task."""
    inputs = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    outputs = [(value.name, value.type, value.shape[1:]) for value in session.get_outputs()]
    if inputs != [("images", "tensor(uint8)", list(task.geometry))] or outputs != [
        ("probabilities", "tensor(float)", [len(task.classes)])
    ]:
        raise ModelError(
            f"{path} takes {inputs} and returns {outputs}, but should take images, uint8 "
            f"[n, {', '.join(map(str, task.geometry))}], and return probabilities, float32 "
            f"[n, {len(task.classes)}]: export it with `fashion-mnist export`"
        )
