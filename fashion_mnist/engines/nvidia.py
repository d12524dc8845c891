"""NVIDIA's driver and runtime, through their C libraries: GPU detection and page-locked memory."""

import ctypes
import logging
import os
import weakref
from typing import Any, Final

from numpy.typing import NDArray

from fashion_mnist.errors import DeviceUnavailable

log = logging.getLogger(__name__)

_DRIVER: Final = "libcuda.so.1"


def check_gpu(gpu_id: int) -> None:
    """Raise DeviceUnavailable, with the reason, if this process cannot use the GPU of that number."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise DeviceUnavailable(f"there is no NVIDIA driver ({error})") from None
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not 0 <= gpu_id < count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        limited = "" if visible is None else f", and CUDA_VISIBLE_DEVICES is {visible!r}"
        raise DeviceUnavailable(
            f"there is no GPU {gpu_id}: the driver shows {count.value} to this process (CUresult {status}){limited}"
        )


def page_lock(buffer: NDArray[Any], cuda_version: str) -> None:
    """Lock an array's memory pages while it exists, so that the GPU copies from and to it directly.

    ONNX Runtime's Python API cannot allocate page-locked memory. Without it copies are slower: a failure is logged.
    """
    try:
        runtime = ctypes.CDLL(f"libcudart.so.{cuda_version.partition('.')[0]}")
        address = ctypes.c_void_p(buffer.ctypes.data)
        status = runtime.cudaHostRegister(address, ctypes.c_size_t(buffer.nbytes), ctypes.c_uint(0))
    except (OSError, AttributeError) as error:
        status = error
    if status != 0:
        log.warning("host buffers are not page-locked (cudaHostRegister: %s); copies to the GPU are slower", status)
        return
    # Unregister memory before it is freed, or it cannot be registered again; at exit that is not necessary.
    weakref.finalize(buffer, runtime.cudaHostUnregister, address).atexit = False
