"""Checksums: what they accept, what they refuse, and that coreutils agrees."""

import subprocess
import sys
from pathlib import Path

import pytest

from fashion_mnist.errors import ModelError
from fashion_mnist.system import checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "bag.png").write_bytes(b"a picture")
    checksums.write(tmp_path, ["samples/bag.png", "model.onnx"])
    return tmp_path


def test_an_untouched_file_passes(folder: Path) -> None:
    checksums.verify(folder / "model.onnx")


def test_coreutils_reads_the_list(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", checksums.NAME], cwd=folder, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "model.onnx: OK\nsamples/bag.png: OK\n"


def test_one_changed_bit_is_found(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"a grapi")
    with pytest.raises(ModelError, match=r"model\.onnx does not match .* run `fashion-mnist export`"):
        checksums.verify(folder / "model.onnx")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx cannot be read"):
        checksums.verify(folder / "model.onnx")


def test_an_unlisted_file_is_refused(folder: Path) -> None:
    (folder / "other.onnx").write_bytes(b"a graph")
    with pytest.raises(ModelError, match=r"other\.onnx is not listed"):
        checksums.verify(folder / "other.onnx")


def test_a_missing_list_is_named(folder: Path) -> None:
    (folder / checksums.NAME).unlink()
    with pytest.raises(ModelError, match="SHA256SUMS is missing"):
        checksums.verify(folder / "model.onnx")


@pytest.mark.parametrize(
    "content", [b"abc  model.onnx\n", b"\xff\xfe\n", b"0" * 64 + b" model.onnx\n", b"G" * 64 + b"  x\n"]
)
def test_a_damaged_list_is_an_error_and_no_pass(folder: Path, content: bytes) -> None:
    (folder / checksums.NAME).write_bytes(content)
    with pytest.raises(ModelError, match="SHA256SUMS"):
        checksums.verify(folder / "model.onnx")


def test_needs_the_standard_library_alone() -> None:
    program = "import sys, fashion_mnist.system.checksums; print({'numpy', 'torch', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
