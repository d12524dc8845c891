"""TorchServe's archive, fashion_mnist.mar: model, handler, core and settings in one file.

TorchServe unpacks it and puts the folder on its workers' Python path, before site-packages: `import fashion_mnist`
there finds the copy inside the archive, whether or not the package is installed too. (Only a PYTHONPATH in TorchServe's
own environment goes before it.) A worker needs numpy, Pillow, kornia-rs and ONNX Runtime, and PyTorch only for the
TorchScript engine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import yaml

import fashion_mnist
import handlers
from fashion_mnist.engines import graphs
from fashion_mnist.errors import ExportError
from fashion_mnist.model_store import CARD, model_task, model_version
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic, checksums

HANDLER: Final = "fashion_mnist_handler.py"
CONFIG: Final = "model-config.yaml"
MANIFEST: Final = "MAR-INF/MANIFEST.json"

DEADLINE_S: Final = 60
"""Seconds for torch-model-archiver, which takes a tenth of one."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip file can name."""


def build(settings: Settings, model_store: Path, output: Path | None = None) -> Path:
    """Pack the model of `model_store` into `output`, by default beside it, named by its task; return its path.

    Every file is compared with its checksum first. The archive replaces an older one atomically, and the same content
    gives the same bytes. Raises ModelError for a model file that is missing or altered, ExportError where
    torch-model-archiver fails or the archive cannot be written.
    """
    models = [*graphs(model_store, settings.runtime), CARD]
    for name in models:
        checksums.verify(model_store / name)
    task = model_task(model_store)
    output = output or model_store / f"{task.name}.mar"
    try:
        with tempfile.TemporaryDirectory(prefix="fashion-mnist-archive.") as name:
            work = Path(name)
            content = work / "content"
            _copy_code(work, content)
            for name in models:
                shutil.copyfile(model_store / name, content / name)
            checksums.write(content, models)
            (work / CONFIG).write_text(yaml.safe_dump(configuration(settings), sort_keys=False), encoding="utf-8")
            _run_archiver(work, task.name, model_version(model_store))
            with atomic.replacing(output) as temporary:
                _repack(work / f"{task.name}.mar", temporary)
    except OSError as error:
        raise ExportError(f"{output} cannot be written ({error}): make room, or name another --output") from error
    return output


def contents(archive: Path) -> list[zipfile.ZipInfo]:
    """What an archive holds, by name."""
    with zipfile.ZipFile(archive) as file:
        return file.infolist()


def configuration(settings: Settings) -> dict[str, object]:
    """The archive's YAML: TorchServe's own keys at the top (delays in ms, time-outs in s), the handler's below them."""
    return {
        "minWorkers": settings.workers,
        "maxWorkers": settings.workers,
        "batchSize": settings.batch_size,
        "maxBatchDelay": settings.max_batch_delay_ms,
        "responseTimeout": settings.response_timeout_s,
        "startupTimeout": settings.startup_timeout_s,
        "handler": settings.for_handler(),
    }


def _copy_code(work: Path, content: Path) -> None:
    """The core and the handler's own package, and beside them the module that TorchServe imports by its bare name."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", HANDLER)
    for package in (fashion_mnist, handlers):
        shutil.copytree(Path(package.__path__[0]), content / package.__name__, ignore=ignore)
    shutil.copyfile(Path(handlers.__path__[0]) / HANDLER, work / HANDLER)


def _run_archiver(work: Path, name: str, version: str) -> None:
    """Run torch-model-archiver in `work`: it splits its arguments at commas, so they are names, not paths."""
    # Isolated (-I), so that neither PYTHONPATH nor the folder it runs in changes what it imports.
    command = [
        sys.executable,
        "-I",
        "-m",
        "model_archiver.model_packaging",
        "--model-name",
        name,
        "--version",
        version,
    ]
    command += ["--handler", HANDLER, "--extra-files", "content", "--config-file", CONFIG, "--export-path", "."]
    try:
        # It works in a folder named like the model in the temporary folder, and deletes what it finds there.
        environment = {**os.environ, "TMPDIR": str(work)}
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"torch-model-archiver did not end within {DEADLINE_S} s; the old archive is untouched"
        ) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(f"torch-model-archiver failed: {last}; the old archive is untouched")


def _repack(source: Path, target: Path) -> None:
    """Copy the archive without what differs from one run to the next: order, times and modes of files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == MANIFEST:
                manifest = json.loads(content)
                del manifest["createdOn"]
                content = json.dumps(manifest, indent=2).encode()
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, content)
