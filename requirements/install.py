"""`make setup`: .venv with the pinned packages, and this project in it. Runs on a bare Python 3.11 to 3.14.

    python requirements/install.py embedded|serve|train|test-embedded|everything

    embedded     what `fashion-mnist serve --engine embedded` needs: no Java, no PyTorch
    serve        with TorchServe
    train        what training and export need
    everything   and what the tests, benchmarks and checks need
    test-embedded  what the tests of the core and the embedded engine need

    WHEELS=cpu|cuda   which builds; by default cuda where the machine has an NVIDIA GPU
    VENV=FOLDER       the environment, by default .venv in the checkout
    TORCH_INDEX=URL   where PyTorch's CPU build is fetched, by default PyTorch's own index

What an earlier run installed stays. A run that was interrupted is completed by the next one; a complete one has nothing
to do.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
VENV = ROOT / (os.environ.get("VENV") or ".venv")
STAMP = VENV / "installed"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST, NEWEST = (3, 11), (3, 14)

SETS = {
    "cpu": {
        "embedded": ["build", "serve-embedded"],
        "serve": ["torch-cpu", "serve-torchserve-cpu"],
        "train": ["torch-cpu", "train"],
        "test-embedded": ["build", "test-embedded"],
        "everything": ["torch-cpu", "cpu"],
    },
    "cuda": {
        "embedded": ["build", "serve-torchserve-gpu"],
        "serve": ["serve-torchserve-cuda"],
        "train": ["cuda"],
        "test-embedded": ["cuda"],
        "everything": ["cuda"],
    },
}
"""The lock files of each set, by the builds that are chosen."""
WITHIN = {
    "embedded": ("serve", "train", "test-embedded", "everything"),
    "serve": ("everything",),
    "train": ("everything",),
    "test-embedded": ("everything",),
}
"""What else contains a set."""

UNPACKED = 4
"""Disk that an installation takes, as a multiple of what is fetched; measured 3.4."""
MB = 10**6
REPORT_S = 10.0
"""Between two lines of progress where they are not on a terminal."""


def main() -> None:
    """Install what is not installed yet."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(f"error: this is Python {python_version()}: Python 3.11, 3.12, 3.13 or 3.14 is needed")
    if len(sys.argv) != 2 or sys.argv[1] not in SETS["cpu"]:
        sys.exit(f"usage: install.py {'|'.join(SETS['cpu'])}")
    variant = os.environ.get("WHEELS") or ("cuda" if Path("/dev/nvidiactl").exists() else "cpu")
    if variant not in SETS:
        sys.exit(f"error: WHEELS is {variant!r}: it takes cpu or cuda")
    wanted = sys.argv[1]
    with VENV.with_name(f"{VENV.name}.lock").open("w") as lock:
        # Two `make` in one checkout: the second waits, and finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamps = STAMP.read_text().splitlines() if STAMP.is_file() and environment_version() == python_version() else []
        if any(stamp(variant, name) in stamps for name in (wanted, *WITHIN.get(wanted, ()))):
            return
        # Of the same builds, and as they are pinned now.
        kept = [line for line in stamps if line in [stamp(variant, name) for name in SETS[variant]]]
        install(variant, wanted)
        # Replaced, not written over: another environment may share the file.
        STAMP.write_text("\n".join([*kept, stamp(variant, wanted)]) + "\n")


def stamp(variant: str, name: str) -> str:
    """What says that a set is installed as it is pinned now."""
    files = [*lock_files(variant, name), ROOT / "pyproject.toml"]
    return f"{variant} {name} {hashlib.sha256(b''.join(file.read_bytes() for file in files)).hexdigest()}"


def lock_files(variant: str, name: str) -> list[Path]:
    """The lock files of a set."""
    return [LOCKS / f"{lock}.txt" for lock in SETS[variant][name]]


def install(variant: str, name: str) -> None:
    """Create the environment where there is none that fits, and install the lock files of a set into it."""
    files = lock_files(variant, name)
    counts = [re.findall(r"# (\d+) packages, (\d+) MB", file.read_text())[0] for file in files]
    packages, megabytes = (sum(int(count[at]) for count in counts) for at in (0, 1))
    free = shutil.disk_usage(ROOT).free // MB
    print(
        f"setting up {VENV.name} with Python {python_version()} ({sys.executable}): {name}, {variant} builds, "
        f"{packages} packages, {megabytes:,} MB to fetch where pip has not cached them; "
        f"WHEELS={'cuda' if variant == 'cpu' else 'cpu'} would take the other builds",
        flush=True,
    )
    if free < megabytes * UNPACKED:
        sys.exit(f"error: this takes {megabytes * UNPACKED:,} MB of disk and {free:,} MB are free: make room")
    STAMP.unlink(missing_ok=True)
    create_environment()
    remove_other_runtime(files[-1])
    with (
        tempfile.TemporaryDirectory(prefix="fetched-", dir=VENV) as folder,
        Progress(Path(folder), megabytes) as progress,
    ):
        for file, (_, fetched) in zip(files, counts, strict=True):
            options = ["--require-hashes", "--no-deps", "-r", str(file)]
            if file.stem == "torch-cpu":
                # One quick try: where the index cannot be reached, pip's own settings may name a folder of wheels.
                index = os.environ.get("TORCH_INDEX") or TORCH_INDEX
                options += ["--extra-index-url", index, "--retries", "1", "--timeout", "30"]
            pip(options, Path(folder), hint=file.stem == "torch-cpu")
            progress.finished(int(fetched))
        pip(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)], Path(folder))


def create_environment() -> None:
    """An environment with a pip and this Python: the one that is there, or a new one."""
    python = VENV / "bin" / "python"
    if environment_version() == python_version() and runs(python, "-m", "pip", "--version"):
        return
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit("error: this Python cannot make environments: apt-get install python3-venv")


def remove_other_runtime(lock: Path) -> None:
    """Uninstall the ONNX Runtime of the other builds: both have the same files."""
    other = "onnxruntime" if "\nonnxruntime-gpu==" in lock.read_text() else "onnxruntime-gpu"
    runs(VENV / "bin" / "python", "-m", "pip", "uninstall", "--yes", "--quiet", other)


def runs(*command: "str | Path") -> bool:
    """Whether a program runs and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == 0
    except OSError:
        return False


def pip(options: list[str], folder: Path, *, hint: bool = False) -> None:
    """Run `pip install`, what it fetches in `folder` until it is unpacked; pip's own words where it fails."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", *options]
    done = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        more = "; set TORCH_INDEX to an index that has PyTorch's CPU build, or WHEELS=cuda" if hint else ""
        print("\n" + "".join(done.stdout.splitlines(keepends=True)[-20:]), file=sys.stderr)
        sys.exit(
            f"error: pip could not install the packages, its words are above{more}. `make setup` goes on from here."
        )


class Progress:
    """Prints how many MB have been fetched and how many are left: on a terminal one line, elsewhere a line at times."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """`folder` is where pip fetches to, and `megabytes` what it fetches in all."""
        self._folder, self._total, self._finished = folder, megabytes, 0
        self._terminal = sys.stdout.isatty()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._terminal:
            print("\r\033[K", end="", flush=True)

    def finished(self, megabytes: int) -> None:
        """So many MB more are unpacked, and no longer in the folder."""
        self._finished += megabytes

    def _report(self) -> None:
        done = 0
        while not self._ended.wait(0.2 if self._terminal else REPORT_S):
            # pip empties the folder before it says that it is done.
            done = max(done, min(self._finished + size(self._folder) // MB, self._total))
            text = f"  {done:,} of {self._total:,} MB fetched, {self._total - done:,} MB left"
            print(f"\r\033[K{text}" if self._terminal else text, end="" if self._terminal else "\n", flush=True)


def size(folder: Path) -> int:
    """The bytes of the files in a folder, in which others write and delete."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(path, name)).st_size
    return total


def environment_version() -> str:
    """The Python of the environment that is there, such as 3.11; empty where there is none that runs."""
    command = [str(VENV / "bin" / "python"), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return str(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout).strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def python_version() -> str:
    """The Python that runs this, such as 3.11."""
    return "{}.{}".format(*sys.version_info[:2])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"error: {error}: this folder must be writable, and its disk not full")
