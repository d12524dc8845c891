"""The archive: what is in it, that it is the same each time, and that a bad model never gets into it."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from export import archive
from fashion_mnist.errors import ExportError, ModelError
from fashion_mnist.settings import Settings


def test_holds_all_that_a_worker_needs(store: Path) -> None:
    path = archive.build(Settings(), store)
    assert path == store / "fashion_mnist.mar"
    assert [entry.filename for entry in archive.contents(path)] == sorted(zipfile.ZipFile(path).namelist())
    with zipfile.ZipFile(path) as file:
        names = set(file.namelist())
        models = {"model.onnx", "model.torchscript.pt", "model_card.json", "SHA256SUMS"}
        code = {"fashion_mnist_handler.py", "fashion_mnist/__init__.py", "fashion_mnist/engines/onnx.py"}
        assert models | code <= names
        assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
        for name in models - {"SHA256SUMS"}:
            assert file.read(name) == (store / name).read_bytes()
        manifest = json.loads(file.read("MAR-INF/MANIFEST.json"))
    assert manifest["model"] == {
        "modelName": "fashion_mnist",
        "handler": "fashion_mnist_handler.py",
        "modelVersion": "1.0",
        "configFile": "model-config.yaml",
    }


def test_its_checksums_fit_its_files(store: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive.build(Settings(), store)) as file:
        file.extractall(tmp_path / "unpacked")
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "unpacked", timeout=30, check=False).returncode == 0


def test_carries_the_settings(store: Path) -> None:
    settings = Settings(
        workers=3, batch_size=5, max_batch_delay_ms=7, response_timeout_s=11, runtime="torchscript", max_images=13
    )
    with zipfile.ZipFile(archive.build(settings, store)) as file:
        config = yaml.safe_load(file.read("model-config.yaml"))
    assert Settings.from_mapping(config.pop("handler")).for_handler() == settings.for_handler()
    assert config == {
        "minWorkers": 3,
        "maxWorkers": 3,
        "batchSize": 5,
        "maxBatchDelay": 7,
        "responseTimeout": 11,
        "startupTimeout": settings.startup_timeout_s,
    }


def test_the_same_content_gives_the_same_bytes(store: Path, tmp_path: Path) -> None:
    first = archive.build(Settings(), store, tmp_path / "first.mar").read_bytes()
    for path in store.iterdir():
        os.utime(path, (0, 0))
    assert archive.build(Settings(), store, tmp_path / "second.mar").read_bytes() == first
    assert archive.build(Settings(threads=2), store, tmp_path / "third.mar").read_bytes() != first


def test_its_own_copy_goes_before_an_installed_one(store: Path, tmp_path: Path) -> None:
    # TorchServe gives its worker the unpacked archive as PYTHONPATH; this project is installed in the Python used here.
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(archive.build(Settings(), store)) as file:
        file.extractall(unpacked)
    program = "import fashion_mnist.engines, handlers; print(fashion_mnist.engines.__file__, handlers.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [
        str(unpacked / name / "__init__.py") for name in ("fashion_mnist/engines", "handlers")
    ]


@pytest.mark.parametrize("name", ["model.onnx", "model.torchscript.pt", "model_card.json"])
def test_an_altered_model_is_refused_and_the_old_archive_stays(store: Path, name: str) -> None:
    old = archive.build(Settings(), store).read_bytes()
    content = (store / name).read_bytes()
    (store / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=f"{name} does not match"):
        archive.build(Settings(), store)
    assert (store / "fashion_mnist.mar").read_bytes() == old


def test_a_failing_archiver_is_reported_and_the_old_archive_stays(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = archive.build(Settings(), store).read_bytes()
    monkeypatch.setattr(archive, "model_version", lambda model_store: "--none")
    with pytest.raises(ExportError, match="torch-model-archiver failed: "):
        archive.build(Settings(threads=2), store)
    assert (store / "fashion_mnist.mar").read_bytes() == old
    assert not list(store.glob(".fashion_mnist*"))


def test_an_archiver_that_hangs_is_stopped(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text(f"#!{sys.executable}\nimport signal\nsignal.pause()\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(archive, "DEADLINE_S", 0.5)
    start = time.monotonic()
    with pytest.raises(ExportError, match="did not end within"):
        archive.build(Settings(), store)
    assert time.monotonic() - start < 30


def test_an_output_that_cannot_be_is_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match=r"file/fashion_mnist\.mar cannot be written .* --output"):
        archive.build(Settings(), store, tmp_path / "file" / "fashion_mnist.mar")


def test_building_needs_neither_torch_nor_onnxruntime() -> None:
    # It runs at every start of the server, which should not wait for seconds of imports, nor keep them in memory.
    program = "import sys, export.archive; print({'torch', 'onnxruntime', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_two_builds_at_once_do_not_disturb_each_other(store: Path, tmp_path: Path) -> None:
    # torch-model-archiver works in a folder with a fixed name, which the two would share.
    program = (
        "import sys; from pathlib import Path; from export.archive import build; "
        "from fashion_mnist.settings import Settings; build(Settings(), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    outputs = [tmp_path / f"{number}.mar" for number in range(3)]
    running = [subprocess.Popen([sys.executable, "-c", program, str(store), str(output)]) for output in outputs]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len({output.read_bytes() for output in outputs}) == 1
