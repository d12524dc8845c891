"""`make lock`: pins of every package, with hashes, for each way to install this project.

    python requirements/lock.py [--keep]

Run with the project's own Python, which has uv. Writes the files beside this one:

    cpu.txt                     everything, for machines without an NVIDIA GPU; PyTorch aside
    torch-cpu.txt               PyTorch's CPU build, which PyPI does not have for Linux
    cuda.txt                    everything, with CUDA
    serve-embedded.txt          for the image of the same name, and so the next four; ONNX Runtime for CPUs
    serve-torchserve-cpu.txt    TorchServe too; PyTorch aside
    serve-torchserve-gpu.txt    ONNX Runtime with CUDA; PyTorch aside, of which the CPU build does
    serve-torchserve-cuda.txt   PyTorch with CUDA too, for that image with the TorchScript runtime
    loadtest.txt                the load generator
    train.txt                   training and export; PyTorch aside
    test-embedded.txt           what the tests of the core and the embedded engine need
    build.txt                   what builds this project
    tools.txt                   what tools.in wants: `make audit` and `make sbom`
    docs.txt                    what docs.in wants: `make docs`

They hold for Linux and macOS, for x86-64 and aarch64: markers say which pins are for which Python and platform, and the
hashes are those of every file of a release. The first line of each says how many packages it pins and how many MB their
files have, both on the machine that it was locked on. And, for the servers of others that ours is measured beside,
benchmarks/environments/NAME.txt for each NAME.in there.

`--keep` moves no version that is pinned already: only what pyproject.toml, `tools.in` or `docs.in` newly wants is
resolved.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from packaging.markers import Marker

HERE: Final = Path(__file__).resolve().parent
PEERS: Final = HERE.parent / "benchmarks" / "environments"
TORCH_INDEX: Final = "https://download.pytorch.org/whl/cpu"
TORCH: Final = "2.13.0"
TORCHVISION: Final = "0.28.0"
SERVE: Final = ["gateway", "torchserve"]
EVERYTHING: Final = [*SERVE, "heif", "train", "loadtest", "bench", "test", "dev"]
CPU_BUILD: Final = f"torch=={TORCH}+cpu"
CUDA_BUILD: Final = f"torch=={TORCH}"
VARIANTS: Final = {
    "cuda": (CUDA_BUILD, [*EVERYTHING, "gpu"]),  # the others take their versions from it
    "cpu": (CPU_BUILD, [*EVERYTHING, "cpu"]),
    "serve-embedded": (CPU_BUILD, ["gateway", "cpu"]),
    "serve-torchserve-cpu": (CPU_BUILD, [*SERVE, "cpu"]),
    "serve-torchserve-gpu": (CPU_BUILD, [*SERVE, "gpu"]),
    "serve-torchserve-cuda": (CUDA_BUILD, [*SERVE, "gpu"]),
    # With the gateway's packages, which the command imports.
    "loadtest": (CPU_BUILD, ["gateway", "loadtest", "cpu"]),
    "train": (CPU_BUILD, ["gateway", "train", "cpu"]),
    "test-embedded": (CPU_BUILD, ["gateway", "cpu", "heif", "test"]),
}
ENVIRONMENTS: Final = ("tools", "docs")
"""Of commands that need an environment of their own."""

OLDEST_PYTHON: Final = "3.11"
TORCH_METADATA: Final = f"""
[[dependency-metadata]]
name = "torch"
version = "{TORCH}"
requires-dist = [
    "filelock", "fsspec>=0.8.5", "jinja2", "networkx>=2.5.1", "setuptools>=77.0.3", "sympy>=1.13.3",
    "typing-extensions>=4.10",
]
"""
"""What PyTorch's CPU build requires: that of PyPI, which uv resolves in its place, wants CUDA's libraries too."""

UV: Final = str(Path(sys.executable).parent / "uv")
DEADLINE_S: Final = 1800


class ResolutionFailed(Exception):
    """uv found no versions that fit; the message is its own."""


def main() -> None:
    """Resolve each variant anew, at today's newest versions or, with `--keep`, at those that are pinned."""
    parser = argparse.ArgumentParser(description="Pin every package.")
    parser.add_argument("--keep", action="store_true", help="move no version that is pinned already")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        locked: dict[str, list[str]] = {}
        known = versions((HERE / "cuda.txt").read_text()) if keep else {}
        for variant, (torch, extras) in VARIANTS.items():
            print(f"locking {variant}", flush=True)
            pins = resolve(torch, extras, known, folder)
            known |= versions("\n".join(pins))
            locked[variant] = pins if torch == CUDA_BUILD else [pin for pin in pins if pin_name(pin) != "torch"]
        locked["torch-cpu"] = torch_pins(locked["cuda"], folder)
        locked["build"] = [pin for pin in locked["cuda"] if pin_name(pin) == "setuptools"]
        for name in ENVIRONMENTS:
            print(f"locking {name}", flush=True)
            pinned = versions((HERE / f"{name}.txt").read_text()) if keep else {}
            locked[name] = compile_pins(str(HERE / f"{name}.in"), constraints(pinned), [], folder)
        print("measuring what they fetch", flush=True)
        # Together what shares its versions: each file is fetched once.
        alone = (*ENVIRONMENTS, "torch-cpu")
        together = {pin for variant, pins in locked.items() if variant not in alone for pin in pins}
        sizes = file_sizes(together, folder / "wheels")
        for variant, pins in locked.items():
            fetched = file_sizes(pins, folder / f"wheels-{variant}") if variant in alone else sizes
            here = [fetched[pin] for pin in pins if pin in fetched]
            header = f"# {len(here)} packages, {round(sum(here) / 1e6)} MB. Written by `make lock`.\n"
            (HERE / f"{variant}.txt").write_text(header + "\n".join(pins) + "\n")
        if keep:
            return
        # With the ONNX Runtime that we serve with: what differs shall be the servers.
        (runtime,) = re.findall(r"^onnxruntime==(\S+)", (HERE / "cpu.txt").read_text(), flags=re.MULTILINE)
        for wanted in sorted(PEERS.glob("*.in")):
            print(f"locking {wanted.stem}", flush=True)
            pins = compile_pins(str(wanted), [f"onnxruntime=={runtime}"], [], folder)
            wanted.with_suffix(".txt").write_text("# Written by `make lock`.\n" + "\n".join(pins) + "\n")


def versions(lock: str) -> dict[str, str]:
    """The version of each package that a lock's text pins, PyTorch's own aside; both ONNX Runtimes have one."""
    found = dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", lock, flags=re.MULTILINE))
    if "onnxruntime-gpu" in found:
        found["onnxruntime"] = found["onnxruntime-gpu"]
    return {name: version for name, version in found.items() if name not in ("torch", "torchvision")}


def constraints(known: Mapping[str, str]) -> list[str]:
    """Versions by name, as uv wants them."""
    return [f"{name}=={version}" for name, version in known.items()]


def resolve(torch: str, extras: list[str], known: Mapping[str, str], folder: Path) -> list[str]:
    """The pins of one variant, each with its hashes, at the versions that are known already."""
    fixed = [*constraints(known), CUDA_BUILD, f"torchvision=={TORCHVISION}"]
    metadata = "" if torch == CUDA_BUILD else TORCH_METADATA
    return compile_pins("pyproject.toml", fixed, [f"--extra={extra}" for extra in extras], folder, metadata)


def torch_pins(cuda: Iterable[str], folder: Path) -> list[str]:
    """The pins of PyTorch's CPU build: of Linux as its own index has them, of macOS as PyPI has them in the CUDA lock.

    Where that index does not answer, the pins of the same version that are there stay.
    """
    wanted = folder / "torch.in"
    wanted.write_text(f"{CPU_BUILD} ; sys_platform == 'linux'\n")
    options = ["--no-deps", "--extra-index-url", TORCH_INDEX, "--index-strategy", "unsafe-best-match"]
    try:
        (linux,) = compile_pins(str(wanted), [], options, folder)
    except ResolutionFailed as error:
        old = (HERE / "torch-cpu.txt").read_text()
        if f"{CPU_BUILD} " not in old:
            raise
        print(f"torch-cpu.txt stays: {TORCH_INDEX} gave no answer ({str(error).splitlines()[0]})", flush=True)
        (linux,) = (pin for pin in entries(old) if pin.startswith(CPU_BUILD))
    (macos,) = (pin for pin in cuda if pin_name(pin) == "torch")
    return [linux, macos.replace(" \\", " ; sys_platform == 'darwin' \\", 1)]


def compile_pins(wanted: str, fixed: Iterable[str], options: list[str], folder: Path, metadata: str = "") -> list[str]:
    """The newest pins that fit what a file wants, on every Python and platform, each with its hashes.

    Raises ResolutionFailed with uv's own words.
    """
    (folder / "constraints.txt").write_text("\n".join(fixed) + "\n")
    (folder / "uv.toml").write_text(metadata)
    command = [UV, "pip", "compile", wanted, "--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
    command += ["--quiet", "--upgrade", "--no-annotate", "--no-header", "--fork-strategy", "fewest"]
    command += ["--config-file", str(folder / "uv.toml"), "--constraints", str(folder / "constraints.txt")]
    command += ["--no-emit-index-url", "--no-emit-find-links", *options]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        raise ResolutionFailed(done.stderr)
    # Windows is none of the platforms that this runs on.
    return [pin for pin in entries(done.stdout) if "; sys_platform == 'win32' " not in pin]


def entries(lock: str) -> list[str]:
    """The pins in a lock's text: each is one line, continued by backslashes to its hashes."""
    return re.findall(r"^(?:[^\n#]*\\\n)*[^\n#]+", lock, flags=re.MULTILINE)


def file_sizes(pins: Iterable[str], folder: Path) -> dict[str, int]:
    """The bytes of each pin's file, of those that this machine would install. The files are in `folder` afterwards."""
    folder.mkdir()
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(sorted(set(pins))) + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--extra-index-url", TORCH_INDEX] if folder.name.endswith("torch-cpu") else []
    subprocess.run([*command, "-r", str(requirements), "-d", str(folder)], timeout=DEADLINE_S, check=True)
    files = {f"{normal_name(file.name)}": file.stat().st_size for file in folder.iterdir()}
    sizes = {}
    for pin in filter(is_for_this_machine, pins):
        start = normal_name(pin.split()[0].replace("==", "-")) + "-"
        for file, size in files.items():
            if file.startswith(start):
                sizes[pin] = size
    return sizes


def is_for_this_machine(pin: str) -> bool:
    """Whether the marker of an entry of a lock, where it has one, is true here."""
    marker = pin.partition("\\")[0].partition(";")[2].strip()
    return not marker or Marker(marker).evaluate()


def pin_name(pin: str) -> str:
    """The package that an entry of a lock pins."""
    return pin.partition("==")[0]


def normal_name(name: str) -> str:
    """A name of a package or of its file, in one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    try:
        main()
    except ResolutionFailed as error:
        sys.exit(str(error))
