"""`make setup`: .venv with the pinned packages, and this project in it. Runs on a bare Python 3.11.

    WHEELS=cpu|cuda   which builds; by default cuda where the machine has an NVIDIA GPU
    TORCH_INDEX=URL   where PyTorch's CPU build is fetched, by default PyTorch's own index

A run that was interrupted is completed by the next one; a complete one has nothing to do.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
UNPACKED = 4
"""Disk that an installation takes, as a multiple of what is fetched; measured 3.4."""


def main() -> None:
    """Install what is not installed yet."""
    variant = os.environ.get("WHEELS") or ("cuda" if Path("/dev/nvidiactl").exists() else "cpu")
    if variant not in ("cpu", "cuda"):
        sys.exit(f"error: WHEELS is {variant!r}: it takes cpu or cuda")
    names = ["torch-cpu", "cpu"] if variant == "cpu" else ["cuda"]
    locks = [LOCKS / f"{name}.txt" for name in names]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in [*locks, ROOT / "pyproject.toml"])).hexdigest()
    with (ROOT / ".venv.lock").open("w") as lock:
        # Two `make` in one checkout: the second waits, and finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.is_file() and STAMP.read_text() == wanted:
            return
        install(variant, locks)
        STAMP.write_text(wanted)


def install(variant: str, locks: list[Path]) -> None:
    """Create the environment where there is none that works, and install the lock files into it."""
    counts = [re.findall(r"# (\d+) packages, (\d+) MB", file.read_text())[0] for file in locks]
    packages, megabytes = (sum(int(count[at]) for count in counts) for at in (0, 1))
    free = shutil.disk_usage(ROOT).free // 10**6
    print(
        f"setting up .venv ({variant}): {packages} packages, {megabytes:,} MB to fetch where pip has not cached them; "
        f"WHEELS={'cuda' if variant == 'cpu' else 'cpu'} would take the other builds",
        flush=True,
    )
    if free < megabytes * UNPACKED:
        sys.exit(f"error: this takes {megabytes * UNPACKED:,} MB of disk and {free:,} MB are free: make room")
    STAMP.unlink(missing_ok=True)
    create_environment()
    done = 0
    for file, (count, _) in zip(locks, counts, strict=True):
        options = ["--require-hashes", "--no-deps", "-r", str(file)]
        if file.stem == "torch-cpu":
            # One quick try: where the index cannot be reached, pip's own settings may name a folder of wheels.
            index = os.environ.get("TORCH_INDEX") or TORCH_INDEX
            options += ["--extra-index-url", index, "--retries", "1", "--timeout", "30"]
        pip(options, done, packages, hint=file.stem == "torch-cpu")
        done += int(count)
    pip(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)], packages, packages)


def create_environment() -> None:
    """An environment with a Python that runs and a pip: the one that is there, or a new one."""
    python = VENV / "bin" / "python"
    if python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit("error: this Python cannot make environments: apt-get install python3-venv")


def pip(options: list[str], done: int, packages: int, *, hint: bool = False) -> None:
    """Run `pip install`, one line of progress a package, and pip's own words where it fails."""
    command = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    terminal = sys.stdout.isatty()
    said: list[str] = []
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith(("Collecting ", "Obtaining ")):
                done += 1
            if match := re.match(r" +(?:Downloading|Using cached) (\S+) \((.*)\)", line):
                show(f"  {min(done, packages)}/{packages} {match[1].split('/')[-1]} ({match[2]})", terminal)
            elif line.startswith("Installing collected packages"):
                show(f"  unpacking {line.count(',') + 1} packages", terminal)
    if terminal:
        print("\r\033[K", end="")
    if process.returncode:
        print("".join(said[-20:]), file=sys.stderr)
        more = "; set TORCH_INDEX to an index that has PyTorch's CPU build, or WHEELS=cuda" if hint else ""
        sys.exit(
            f"error: pip could not install the packages, its words are above{more}. `make setup` goes on from here."
        )


def show(text: str, terminal: bool) -> None:
    """On a terminal one line that changes, elsewhere a line each."""
    print(
        f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}" if terminal else text,
        end="" if terminal else "\n",
        flush=True,
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"error: {error}: this folder must be writable, and its disk not full")
