"""The engines: the same answers, honest about where they compute, and picky about what they load."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fashion_mnist.dataset import Dataset
from fashion_mnist.engines import load_file, open_engine
from fashion_mnist.engines.onnx import CPU_CHUNK, CUDA_BATCHES, _FixedBatch
from fashion_mnist.errors import DeviceUnavailable, ModelError, UsageError

ENGINES = ["onnx", "torchscript"]
without_gpu = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
with_gpu = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="needs a GPU")


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
    pixels = np.frombuffer(dataset.test.images[:3].tobytes(), np.uint8).reshape(3, 28, 28)
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


@pytest.mark.parametrize("engine", ENGINES)
@with_gpu
def test_a_gpu_gives_the_answers_of_the_cpu(model_store: Path, dataset: Dataset, engine: str) -> None:
    loaded = open_engine(model_store, engine, "cuda")
    assert "cuda" in loaded.provider.lower()
    expected = open_engine(model_store, engine, "cpu").predict(dataset.test.images[:2000])
    np.testing.assert_allclose(loaded.predict(dataset.test.images[:2000]), expected, atol=1e-3)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_fixed_batch_gives_the_answers_of_a_free_one(model_store: Path, dataset: Dataset, count: int) -> None:
    """The GPU's path, bound buffers and padding, on the CPU: all of it but the device."""
    session = onnxruntime.InferenceSession(str(model_store / "model.onnx"), providers=["CPUExecutionProvider"])
    batch = _FixedBatch(session, 8, "cpu", 0)
    expected = open_engine(model_store, "onnx", "cpu").predict(dataset.test.images[:count])
    for _ in range(2):
        np.testing.assert_allclose(batch.run(dataset.test.images[:count]), expected, atol=1e-6)
    kept = batch.run(dataset.test.images[:count])
    batch.run(dataset.test.images[100 : 100 + count])
    np.testing.assert_allclose(kept, expected, atol=1e-6)


def test_nothing_is_reported_to_anybody(model_store: Path, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would leave its database and the machine's id in the home folder."""
    program = f"import pathlib, fashion_mnist.engines as e; e.open_engine(pathlib.Path({str(model_store)!r}))"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


def test_fixed_batches_grow() -> None:
    assert list(CUDA_BATCHES) == sorted(CUDA_BATCHES)


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
