"""The ONNX Runtime engine."""

import ctypes
import logging
import sys
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fashion_mnist.classes import CLASSES, GEOMETRY
from fashion_mnist.errors import DeviceUnavailable, ModelError

log = logging.getLogger(__name__)

CUDA_BATCHES: Final = (1, 8, 32, 128, 512)
"""The batch sizes that exist on a GPU: a batch is padded to the next one, so each shape is prepared only once."""

CPU_CHUNK: Final = 64
"""Images per run on the CPU: what a run works on then stays in the cache; 10.2 us an image, and 13.2 us at 1,024."""


class OnnxEngine:
    """A model.onnx in ONNX Runtime. See `fashion_mnist.engines.Engine`."""

    name = "onnx"

    def __init__(self, path: Path, device: str, *, threads: int, gpu_id: int | None) -> None:
        self.provider = "CPUExecutionProvider"
        self._fixed: list[_FixedBatch] = []
        self._session: onnxruntime.InferenceSession | None = None
        if device != "cpu":
            try:
                self._session = _cuda_session(path, gpu_id or 0)
                self.provider = "CUDAExecutionProvider"
            except DeviceUnavailable as error:
                if device == "cuda":
                    raise
                log.warning("device auto: computing on the CPU, because %s", error.message)
        if self._session is None:
            self._session = _session(path, _options(threads), ["CPUExecutionProvider"])
        _check_graph(path, self._session)
        if self.provider == "CUDAExecutionProvider":
            self._fixed = [_FixedBatch(self._session, size, "cuda", gpu_id or 0) for size in CUDA_BATCHES]
        for size in CUDA_BATCHES:
            self.predict(np.zeros((size, GEOMETRY.height, GEOMETRY.width), np.uint8))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 [n, 10], of images, uint8 [n, 28, 28]."""
        chunk = CUDA_BATCHES[-1] if self._fixed else CPU_CHUNK
        if len(images) <= chunk:
            return self._run(images)
        return np.concatenate([self._run(images[start : start + chunk]) for start in range(0, len(images), chunk)])

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._fixed and len(images):
            return next(batch for batch in self._fixed if batch.size >= len(images)).run(images)
        assert self._session is not None
        outputs: list[NDArray[np.float32]] = self._session.run(["probabilities"], {"images": images[:, None]})
        return outputs[0]


class _FixedBatch:
    """One batch size, bound once: page-locked host buffers on both sides of an input that lives on the device."""

    def __init__(self, session: onnxruntime.InferenceSession, size: int, device: str, device_id: int) -> None:
        self.size = size
        self._session = session
        self._images = np.zeros((size, *GEOMETRY), np.uint8)
        self._probabilities = np.zeros((size, len(CLASSES)), np.float32)
        if device == "cuda":
            _page_lock(self._images)
            _page_lock(self._probabilities)
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(self._images, device, device_id)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("images", self._input)
        # The output lands in the page-locked buffer without a copy between.
        self._binding.bind_output(
            "probabilities", "cpu", 0, np.float32, self._probabilities.shape, self._probabilities.ctypes.data
        )

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(images)
        # What is left of an earlier batch behind `count` is computed once more, and not read.
        self._images[:count, 0] = images
        self._input.update_inplace(self._images)
        self._session.run_with_iobinding(self._binding)
        return self._probabilities[:count].copy()


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that spins while it waits takes its core from TorchServe and the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(
    path: Path, options: onnxruntime.SessionOptions, providers: list[str | tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        # ONNX Runtime's exceptions share no base class.
        raise ModelError(f"{path} cannot be loaded: {str(error)[:200]}; run `fashion-mnist export`") from None


def _cuda_session(path: Path, gpu_id: int) -> onnxruntime.InferenceSession:
    """A session on the GPU, and only there. Raises DeviceUnavailable with the reason.

    ONNX Runtime falls back to the CPU without a word in its API, so each step is checked.
    """
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DeviceUnavailable("this onnxruntime has no CUDA provider: install onnxruntime-gpu")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceUnavailable(f"there is no NVIDIA driver ({error})") from None
    torch = sys.modules.get("torch")
    if torch is None or torch.version.cuda is None:
        onnxruntime.preload_dlls()
    providers: list[str | tuple[str, dict[str, str]]] = [
        ("CUDAExecutionProvider", {"device_id": str(gpu_id)}),
        "CPUExecutionProvider",
    ]
    try:
        session = _session(path, _options(threads=1), providers)
    except ModelError as error:
        # Whether it is the GPU or the file, the CPU will tell: it is tried next, or asked for.
        raise DeviceUnavailable(f"the model cannot be loaded onto GPU {gpu_id}: {error.message}") from None
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise DeviceUnavailable(
            f"ONNX Runtime could not start its CUDA provider on GPU {gpu_id}: compare the CUDA and cuDNN versions that "
            "it needs with those installed (`WHEELS=cuda make setup` installs fitting ones)"
        )
    return session


def _check_graph(path: Path, session: onnxruntime.InferenceSession) -> None:
    """Raise ModelError where the file is a model, but not one of ours."""
    inputs = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    outputs = [(value.name, value.type, value.shape[1:]) for value in session.get_outputs()]
    if inputs != [("images", "tensor(uint8)", list(GEOMETRY))] or outputs != [
        ("probabilities", "tensor(float)", [len(CLASSES)])
    ]:
        raise ModelError(
            f"{path} takes {inputs} and gives {outputs}: needed are images, uint8 "
            f"[n, {', '.join(map(str, GEOMETRY))}], and probabilities, float32 "
            f"[n, {len(CLASSES)}]; export it with `fashion-mnist export`"
        )


def _page_lock(buffer: NDArray[np.uint8] | NDArray[np.float32]) -> None:
    """Tell CUDA to keep a host buffer in place, so that the GPU copies from and to it directly.

    ONNX Runtime's Python API has no page-locked memory. Without it copies work too, only slower: a failure is logged.
    """
    major = (onnxruntime.cuda_version or "").partition(".")[0]
    try:
        status = ctypes.CDLL(f"libcudart.so.{major}").cudaHostRegister(
            ctypes.c_void_p(buffer.ctypes.data), ctypes.c_size_t(buffer.nbytes), ctypes.c_uint(0)
        )
    except (OSError, AttributeError) as error:
        status = error
    if status != 0:
        log.warning("host buffers are not page-locked (cudaHostRegister: %s); copies to the GPU are slower", status)
