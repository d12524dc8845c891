"""`make gpu-bundle`: what a machine with a GPU, PyTorch and no network lacks, in parts, and a script that installs it.

    python -m deploy.gpu_bundle [--python 3.12] [--output gpu-bundle]

That is the data set and the wheels that `requirements/serve-torchserve-gpu.txt` pins, for that Python on x86-64 Linux,
but for those that come with a PyTorch for CUDA 13. The parts are one tar, split.
"""

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

from fashion_mnist.data import dataset
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from requirements import locks

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements" / "serve-torchserve-gpu.txt"
PART_BYTES: Final = 54 * 10**6
DOWNLOAD_S: Final = 900
INSTALLER: Final = "install.py"
CHECKSUMS: Final = "SHA256SUMS"
PART: Final = "part-"

PRESENT: Final = frozenset({"numpy", "sympy", "networkx", "mpmath", "fsspec", "filelock"})
PRESENT_PREFIXES: Final = ("torch-", "nvidia-", "cuda-", "triton")
"""What a machine for PyTorch has: of these, at its own versions, is what it computes with."""

NEWEST_GLIBC: Final = 39


def main() -> None:
    """Make the bundle, and print its parts."""
    parser = argparse.ArgumentParser(description="Pack what a machine with a GPU lacks.")
    parser.add_argument("--python", default="3.12", help="the Python of that machine")
    parser.add_argument("--output", type=Path, default=ROOT / "gpu-bundle")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fm-bundle-") as name:
        folder = Path(name)
        download(missing_packages(LOCK), folder / "wheels", chosen.python)
        data = Path(Settings.from_environment().data or dataset.find())
        dataset.load(data)
        shutil.copytree(data, folder / "data")
        parts = write(folder, chosen.output)
    for part in parts:
        print(f"{part.stat().st_size / 1e6:8.1f} MB  {part}")
    print(
        f"{sum(part.stat().st_size for part in parts) / 1e6:8.1f} MB  in {len(parts)} parts; there: python3 {INSTALLER}"
    )


def missing_packages(lock: Path) -> list[locks.Pin]:
    """What a lock pins and such a machine lacks."""
    return [pin for pin in locks.read(lock) if pin.name not in PRESENT and not _present(pin.name)]


def download(pins: Iterable[locks.Pin], folder: Path, python: str) -> None:
    """Fetch the wheels of some pins for a Python, comparing their checksums. Raises CalledProcessError."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(NEWEST_GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        for pin in pins:
            hashes = " ".join(f"--hash=sha256:{digest}" for digest in pin.sha256)
            wanted.write(f"{pin.name}=={pin.version} {hashes}\n")
        wanted.flush()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "-q",
        ]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation", "cp"]
        command += ["--python-version", python, "--dest", str(folder), "-r", wanted.name]
        command += [word for platform in platforms for word in ("--platform", platform)]
        subprocess.run(command, timeout=DOWNLOAD_S, check=True)


def write(folder: Path, output: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Pack a folder into `output`, with checksums and the installer; returns the parts of the tar."""
    output.mkdir(parents=True, exist_ok=True)
    # The checksums go first and come last: without them nothing is installed.
    for old in (output / CHECKSUMS, *output.glob(f"{PART}*")):
        old.unlink(missing_ok=True)
    splitter = _Splitter(output, part_bytes)
    with tarfile.open(fileobj=splitter, mode="w|") as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            tar.add(path, arcname=str(path.relative_to(folder)))
    splitter.close()
    sums = [f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in splitter.parts]
    atomic.write_text(output / CHECKSUMS, "".join(sums))
    shutil.copy(Path(__file__).with_name("gpu_bundle_installer.py"), output / INSTALLER)
    return splitter.parts


def _present(name: str) -> bool:
    # TorchServe and its archiver are torch-something, too, and no part of PyTorch.
    return name in ("torch", "torchvision") or (name.startswith(PRESENT_PREFIXES) and name != "torch-model-archiver")


class _Splitter(io.RawIOBase):
    """A file to write to, as several of at most so many bytes."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self.parts: list[Path] = []
        self._folder, self._part_bytes = folder, part_bytes
        self._room = 0
        self._file: IO[bytes] | None = None

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        rest = memoryview(content)
        while rest:
            if not self._room:
                self._end_part()
                self.parts.append(self._folder / f"{PART}{len(self.parts):02}")
                self._file, self._room = self.parts[-1].open("wb"), self._part_bytes
            assert self._file is not None
            written = self._file.write(rest[: self._room])
            self._room -= written
            rest = rest[written:]
        return memoryview(content).nbytes

    def close(self) -> None:
        self._end_part()
        super().close()

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()


if __name__ == "__main__":
    main()
