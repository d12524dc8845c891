"""Join the parts of a bundle and install them, without a network: run it by the Python that has PyTorch.

    python3 install.py [FOLDER]

FOLDER, by default `venv` beside this file, becomes an environment that has the bundle's packages and, behind them, all
that this Python has. The standard library and a pip are all that it needs.
"""

import hashlib
import importlib.util
import io
import shutil
import site
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEADLINE_S = 300


def main() -> None:
    """Install everything, and print how to use it."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE / "venv"
    parts = checked_parts(HERE)
    with tempfile.TemporaryDirectory(dir=HERE) as name:
        unpack(parts, Path(name))
        wheels = sorted((Path(name) / "wheels").glob("*.whl"))
        python = environment(folder)
        install(python, [str(wheel) for wheel in wheels])
        shutil.rmtree(HERE / "data", ignore_errors=True)
        shutil.move(Path(name) / "data", HERE / "data")
    project = HERE.parent
    if (project / "pyproject.toml").is_file():
        install(python, ["--no-build-isolation", "--editable", str(project)])
    print(f"{len(wheels)} packages; now: FASHION_MNIST_DATA={HERE / 'data'} make test-gpu bench-gpu PYTHON={python}")


def checked_parts(folder: Path) -> list[Path]:
    """The bundle's parts, in order. Ends with the names of those that are missing or altered."""
    listed = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    missing = [name for _, name in listed if not (folder / name).is_file()]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} of {len(listed)} parts missing in {folder}: copy them there, then run again"
        )
    altered = [name for digest, name in listed if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest]
    if altered:
        sys.exit(f"error: {', '.join(altered)} does not have the checksum of SHA256SUMS: copy it anew, then run again")
    return [folder / name for _, name in listed]


def unpack(parts: Sequence[Path], folder: Path) -> None:
    """Unpack the tar that the parts make up."""
    with tarfile.open(fileobj=io.BufferedReader(_Joined(parts)), mode="r|") as tar:
        tar.extractall(folder, filter="data")


def environment(folder: Path) -> Path:
    """A new environment in `folder`, which has this Python's packages behind its own; its `python`."""
    venv.create(folder, clear=True, symlinks=True, with_pip=importlib.util.find_spec("pip") is None)
    own = next(folder.glob("lib/python*/site-packages"))
    # Processed as if they were this environment's own, with whatever .pth files they hold.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
    (own / "behind.pth").write_text("".join(lines))
    nvidia = importlib.util.find_spec("nvidia")
    if nvidia is not None and nvidia.submodule_search_locations:
        # ONNX Runtime looks for CUDA's wheels beside itself alone.
        (own / "nvidia").symlink_to(next(iter(nvidia.submodule_search_locations)), target_is_directory=True)
    return folder / "bin" / "python"


def install(python: Path, what: Sequence[str]) -> None:
    """Install by the environment's pip, which may find packages behind it: these stay as they are."""
    options = ["--no-index", "--no-deps", "--no-compile", "--ignore-installed", "--disable-pip-version-check", "-q"]
    done = subprocess.run([python, "-m", "pip", "install", *options, *what], timeout=DEADLINE_S, check=False)
    if done.returncode:
        sys.exit("error: pip could not install the packages, its words are above")


class _Joined(io.RawIOBase):
    """Several files, read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._rest = list(parts)
        self._file = self._rest.pop(0).open("rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        while not (count := self._file.readinto(buffer)) and self._rest:
            self._file.close()
            self._file = self._rest.pop(0).open("rb")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


if __name__ == "__main__":
    main()
