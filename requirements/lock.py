"""`make lock`: pins of every package, with hashes, for each way to install this project.

Run with the project's own Python, which has uv. Writes the files beside this one:

    cpu.txt                     everything, for machines without an NVIDIA GPU; PyTorch aside
    torch-cpu.txt               PyTorch's CPU build, which PyPI does not have
    cuda.txt                    everything, with CUDA
    serve-embedded.txt          for the image of the same name, and so the next four; ONNX Runtime for CPUs
    serve-torchserve-cpu.txt    TorchServe too; PyTorch aside
    serve-torchserve-gpu.txt    ONNX Runtime with CUDA; PyTorch aside, of which the CPU build does
    serve-torchserve-cuda.txt   PyTorch with CUDA too, for that image with the TorchScript runtime
    loadtest.txt                the load generator
    train.txt                   training and export; PyTorch aside
    tools.txt                   what tools.in wants: `make audit` and `make sbom`

The first line of each says how many packages it pins and how many MB their files have. And, for the servers of others
that ours is measured beside, benchmarks/environments/NAME.txt for each NAME.in there.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "benchmarks" / "environments"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH = "2.13.0"
TORCHVISION = "0.28.0"
SERVE = ["gateway", "torchserve"]
EVERYTHING = [*SERVE, "heif", "train", "loadtest", "bench", "dev"]
CPU_BUILD = f"torch=={TORCH}+cpu"
CUDA_BUILD = f"torch=={TORCH}"
VARIANTS = {
    "cpu": (CPU_BUILD, EVERYTHING),
    "cuda": (CUDA_BUILD, [*EVERYTHING, "gpu"]),
    "serve-embedded": (CPU_BUILD, ["gateway", "cpu"]),
    "serve-torchserve-cpu": (CPU_BUILD, [*SERVE, "cpu"]),
    "serve-torchserve-gpu": (CPU_BUILD, [*SERVE, "gpu"]),
    "serve-torchserve-cuda": (CUDA_BUILD, [*SERVE, "gpu"]),
    # With the gateway's packages, which the command imports.
    "loadtest": (CPU_BUILD, ["gateway", "loadtest", "cpu"]),
    "train": (CPU_BUILD, ["gateway", "train", "cpu"]),
}
UV = str(Path(sys.executable).parent / "uv")
DEADLINE_S = 1800


def main() -> None:
    """Resolve each variant anew, at today's newest versions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for variant, (torch, extras) in VARIANTS.items():
            print(f"locking {variant}", flush=True)
            locked = resolve(torch, extras, folder)
            # Not every image has PyTorch.
            for pin in [entry for entry in locked if entry.startswith(f"{CPU_BUILD} ")]:
                locked.remove(pin)
                pin = pin if "--hash" in pin else f"{pin} \\\n    --hash=sha256:{torch_checksum(torch, folder)}"
                write("torch-cpu", [pin], folder)
            write(variant, locked, folder)
        print("locking tools", flush=True)
        write("tools", compile_pins(str(HERE / "tools.in"), [], [], folder), folder)
        # With the ONNX Runtime that we serve with: what differs shall be the servers.
        (runtime,) = re.findall(r"^onnxruntime-gpu==(\S+)", (HERE / "cpu.txt").read_text(), flags=re.MULTILINE)
        for wanted in sorted(PEERS.glob("*.in")):
            print(f"locking {wanted.stem}", flush=True)
            pins = compile_pins(str(wanted), [f"onnxruntime=={runtime}"], [], folder)
            wanted.with_suffix(".txt").write_text("# Written by `make lock`.\n" + "\n".join(pins) + "\n")


def resolve(torch: str, extras: list[str], folder: Path) -> list[str]:
    """The pins of one variant, each with its hashes."""
    options = [f"--extra={extra}" for extra in extras]
    if "+cpu" in torch:
        options += [f"--find-links={wheels}" for wheels in find_links()]
    return compile_pins("pyproject.toml", [torch, f"torchvision=={TORCHVISION}"], options, folder)


def compile_pins(wanted: str, constraints: list[str], options: list[str], folder: Path) -> list[str]:
    """The newest pins that fit what a file wants, each with its hashes."""
    file = folder / "constraints.txt"
    file.write_text("\n".join(constraints) + "\n")
    command = [UV, "pip", "compile", wanted, "--generate-hashes", "--quiet", "--upgrade", "--no-annotate"]
    command += ["--no-header", "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--constraints", str(file), "--no-emit-index-url", "--no-emit-find-links", *options]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    # A pin and its hashes are one line, continued by backslashes.
    return re.findall(r"^(?:[^\n]*\\\n)*[^\n]+", done.stdout, flags=re.MULTILINE)


def torch_checksum(torch: str, folder: Path) -> str:
    """The sha256 of PyTorch's CPU wheel: its index publishes no hashes that a resolver could copy."""
    target = folder / "torch"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--extra-index-url", TORCH_INDEX, torch]
    subprocess.run([*command, "-d", str(target)], timeout=DEADLINE_S, check=True)
    (wheel,) = target.iterdir()
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def write(name: str, pins: list[str], folder: Path) -> None:
    """Write one lock file, with the size of what it downloads."""
    wheels = folder / name
    target = HERE / f"{name}.txt"
    body = "\n".join(pins) + "\n"
    requirements = folder / f"{name}.txt"
    requirements.write_text(body)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "-r", str(requirements), "-d", str(wheels)], timeout=DEADLINE_S, check=True)
    megabytes = round(sum(file.stat().st_size for file in wheels.iterdir()) / 1e6)
    target.write_text(f"# {len(pins)} packages, {megabytes} MB. Written by `make lock`.\n{body}")
    for file in wheels.iterdir():
        file.unlink()


def find_links() -> list[str]:
    """The wheel folder of the user's pip settings, where PyTorch's CPU build may lie."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True, check=False
    )
    return done.stdout.split()[:1]


if __name__ == "__main__":
    main()
