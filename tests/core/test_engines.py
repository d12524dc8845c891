"""The engines: the same answers, honest about where they compute, and picky about what they load."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import load_file, nvidia, open_engine
from fashion_mnist.engines.fixed_batches import SIZES, sizes_up_to
from fashion_mnist.engines.onnx import CPU_CHUNK, OnnxEngine
from fashion_mnist.errors import DeviceUnavailable, ModelError, UsageError
from fashion_mnist.task import FASHION_MNIST

ENGINES = ["onnx", "torchscript"]
without_gpu = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [0, 1, 2, CPU_CHUNK, CPU_CHUNK + 1, 1000])
def test_any_number_of_images_is_answered(model_store: Path, dataset: Dataset, engine: str, count: int) -> None:
    loaded = open_engine(model_store, engine, "cpu")
    probabilities = loaded.predict(dataset.test.images[:count])
    assert probabilities.shape == (count, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_engines_agree(model_store: Path, dataset: Dataset) -> None:
    found = [open_engine(model_store, engine, "cpu").predict(dataset.test.images) for engine in ENGINES]
    assert np.array_equal(found[0].argmax(axis=1), found[1].argmax(axis=1))
    assert np.abs(found[0] - found[1]).max() <= 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_does_not_depend_on_its_neighbours(model_store: Path, dataset: Dataset, engine: str) -> None:
    loaded = open_engine(model_store, engine, "cpu")
    together = loaded.predict(dataset.test.images[:100])
    alone = np.concatenate([loaded.predict(dataset.test.images[index : index + 1]) for index in range(100)])
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_that_may_not_be_written_are_fine(model_store: Path, dataset: Dataset, engine: str) -> None:
    pixels = np.frombuffer(dataset.test.images[:3].tobytes(), np.uint8).reshape(3, 1, 28, 28)
    assert open_engine(model_store, engine, "cpu").predict(pixels).shape == (3, 10)


@pytest.mark.parametrize("engine", ENGINES)
@without_gpu
def test_a_gpu_by_name_fails_with_the_reason_and_auto_falls_back(
    model_store: Path, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DeviceUnavailable, match="CUDA|NVIDIA"):
        open_engine(model_store, engine, "cuda")
    loaded = open_engine(model_store, engine, "auto")
    assert loaded.provider in ("CPUExecutionProvider", "cpu")
    assert "computing on the CPU, because" in caplog.text


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 8, 700, 2049])
def test_fixed_batches_give_the_answers_of_free_ones(
    model_store: Path, dataset: Dataset, count: int, cuda_graphs: bool
) -> None:
    """The GPU's path, bound buffers and padding, on the CPU: all of it but the device."""
    path = model_store / "model.onnx"
    engine = OnnxEngine(
        path,
        "cpu",
        task=FASHION_MNIST,
        threads=1,
        gpu_id=None,
        max_gpu_batch=2048,
        cuda_graphs=cuda_graphs,
        fixed_batches=True,
    )
    expected = open_engine(model_store, "onnx", "cpu").predict(dataset.test.images[:count])
    for _ in range(2):
        np.testing.assert_allclose(engine.predict(dataset.test.images[:count]), expected, atol=1e-6)
    kept = engine.predict(dataset.test.images[:count])
    engine.predict(dataset.test.images[3000 : 3000 + count])
    np.testing.assert_allclose(kept, expected, atol=1e-6)


class FakeDriver:
    """NVIDIA's driver, of which only the count of GPUs and the status matter."""

    def __init__(self, count: int, status: int = 0) -> None:
        self._count, self._status = count, status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._count
        return 0


@pytest.mark.parametrize(
    ("driver", "gpu_id", "visible", "said"),
    [
        (FakeDriver(0, status=100), 0, "", "shows 0 .*CUresult 100.*CUDA_VISIBLE_DEVICES is ''"),
        (FakeDriver(2), 2, None, "there is no GPU 2: the driver shows 2 .*CUresult 0.$"),
        (FakeDriver(1), -1, "0", "there is no GPU -1"),
    ],
)
def test_a_gpu_that_this_process_cannot_see_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, gpu_id: int, visible: str | None, said: str
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(DeviceUnavailable, match=said):
        nvidia.check_gpu(gpu_id)


@pytest.mark.parametrize("runtime", ENGINES)
@without_gpu
def test_a_driver_without_what_computes_is_the_reason_and_auto_falls_back(
    tmp_path: Path, model_store: Path, runtime: str
) -> None:
    """A driver that shows a GPU and knows no other call: where CUDA's wheels are, they fail by it, too."""
    (tmp_path / "driver.c").write_text(
        "int cuInit(unsigned flags) { return 0; }\nint cuDeviceGetCount(int *count) { *count = 1; return 0; }\n"
    )
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], timeout=60, check=True)
    program = f"""
import logging, pathlib
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import DeviceUnavailable
logging.basicConfig(format="%(message)s")
store = pathlib.Path({str(model_store)!r})
try:
    open_engine(store, {runtime!r}, "cuda")
except DeviceUnavailable as error:
    print(error.message)
print(open_engine(store, {runtime!r}, "auto").provider)
"""
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    reason, provider = done.stdout.splitlines()
    assert "CUDA" in reason
    assert provider in ("CPUExecutionProvider", "cpu")
    assert f"device auto: computing on the CPU, because {reason}" in done.stderr


def test_a_gpu_that_is_seen_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: FakeDriver(2))
    nvidia.check_gpu(1)


def test_page_locked_memory_is_given_back_before_it_is_freed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Mock()
    runtime.cudaHostRegister.return_value = 0
    monkeypatch.setattr("ctypes.CDLL", lambda name: runtime)
    buffer = np.zeros(8)
    address = buffer.ctypes.data
    nvidia.page_lock(buffer, "13.0")
    assert runtime.cudaHostRegister.call_args[0][0].value == address
    runtime.cudaHostUnregister.assert_not_called()
    del buffer
    assert runtime.cudaHostUnregister.call_args[0][0].value == address
    runtime.cudaHostRegister.return_value = 2
    nvidia.page_lock(np.zeros(8), "13.0")
    assert "cudaHostRegister: 2" in caplog.text
    runtime.cudaHostUnregister.assert_called_once()


def test_nothing_is_reported_to_anybody(model_store: Path, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would leave its database and the machine's id in the home folder."""
    program = f"import pathlib, fashion_mnist.engines as e; e.open_engine(pathlib.Path({str(model_store)!r}))"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (100, (1, 8, 32, 100)), (512, SIZES), (4096, (*SIZES, 1024, 2048, 4096))]
)
def test_fixed_batches_end_with_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert sizes_up_to(largest) == sizes


@pytest.mark.parametrize(("engine", "file"), [("onnx", "model.onnx"), ("torchscript", "model.torchscript.pt")])
def test_an_altered_model_is_never_loaded(model_store: Path, tmp_path: Path, engine: str, file: str) -> None:
    store = tmp_path / "store"
    shutil.copytree(model_store, store)
    content = bytearray((store / file).read_bytes())
    content[len(content) // 2] ^= 1
    (store / file).write_bytes(content)
    with pytest.raises(ModelError, match=file):
        open_engine(store, engine, "cpu")
    (store / file).unlink()
    with pytest.raises(ModelError, match=file):
        open_engine(store, engine, "cpu")


@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(ModelError, match=name):
        load_file(tmp_path / name, "cpu")


def test_an_unknown_engine_names_the_known_ones(model_store: Path) -> None:
    with pytest.raises(UsageError, match="onnx, torchscript"):
        open_engine(model_store, "tensorflow")
