"""Takes out of an installed environment what an image does not need to run, and compiles the rest: `slim.py PACKAGES`.

PACKAGES is the folder site-packages. It needs binutils, and is run in the stage that installs, so that what goes never
gets into an image.
"""

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

UNUSED = (
    # What only developers, compilers and type checkers read.
    "**/tests",
    "**/*.a",
    "**/*.h",
    "**/*.hpp",
    "**/*.pxd",
    "**/*.pyi",
    "numpy/f2py",
    "numpy/distutils",
    "torch/bin/*",
    "torch/include",
    "torch/share",
    "torch/test",
    # They build packages, which nobody does in an image.
    "setuptools*",
    "_distutils_hack",
    "distutils-precedence.pth",
    "pkg_resources",
    "wheel",
    "wheel-*",
    # The library for programs in C++: the Python module has the same code in itself.
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    # Those of languages that no page of ours shows.
    "pygments/lexers/[!_]*",
)
KEPT = ("pygments/lexers/special.py", "pygments/lexers/python.py", "torch/bin/torch_shm_manager")
"""Of what the patterns above name."""

STRIPPED = ("PIL/*.so", "httptools/parser/*.so", "kornia_rs/*.so", "pillow.libs/*.so*", "uvloop/*.so", "yaml/*.so")
"""Modules that are published with what only a debugger reads."""

DEADLINE_S = 120


def main(packages: Path) -> None:
    """Slim the packages of one environment, and compile them: an image that cannot be written to never could."""
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            if str(path.relative_to(packages)) in KEPT:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for pattern in STRIPPED:
        for path in packages.glob(pattern):
            run("strip", "--strip-unneeded", path)
    # Some hold templates, which are no Python yet.
    compileall.compile_dir(packages, quiet=2, workers=0)


def run(*command: str | Path) -> str:
    """What a program of binutils prints. Raises where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        sys.exit(f"error: {command[0]}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
