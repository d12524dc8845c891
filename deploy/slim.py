"""Takes out of an installed environment what an image does not need to run, and compiles the rest: `slim.py PACKAGES`.

PACKAGES is the folder site-packages. It needs binutils, and is run in the stage that installs, so that what goes never
gets into an image.
"""

import compileall
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
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

STRIPPED = ("httptools/parser/*.so", "kornia_rs/*.so", "uvloop/*.so", "yaml/*.so")
"""Modules that are published with what only a debugger reads."""

HOLLOW = ("libopenblasp-*", "libavcodec-*", "libavformat-*", "libavutil-*", "libswscale-*", "libaom-*")
"""Libraries of OpenCV's wheel that none of our calls reaches: linear algebra, FFmpeg for videos, AVIF's codec.

OpenCV is not loaded without them, so each is replaced by one that has the same functions, all of which end the process.
With them go the libraries that they alone need, an OpenSSL 1.1.1 among them.
"""

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
    libraries = packages / "opencv_python_headless.libs"
    module = packages / "cv2" / "cv2.abi3.so"
    if module.exists():
        for pattern in HOLLOW:
            (library,) = libraries.glob(pattern)
            hollow(library, users=[module, *libraries.iterdir()])
        remove_unneeded(libraries, module)
    for pattern in STRIPPED:
        for path in packages.glob(pattern):
            run("strip", "--strip-unneeded", path)
    # Some hold templates, which are no Python yet.
    compileall.compile_dir(packages, quiet=2, workers=0)


def hollow(library: Path, users: Iterable[Path]) -> None:
    """Replace a library by one whose functions, those that `users` call, consist of one invalid instruction."""
    defined = {name.replace("@@", "@") for name in symbols(library, "--defined-only")}
    called = {name for user in users if user != library for name in symbols(user, "--undefined-only")}
    assembly, versions = [".text"], {}
    for number, symbol in enumerate(sorted(defined & called)):
        name, _, version = symbol.partition("@")
        label = f"hollow_{number}" if version else name
        assembly += [f".globl {label}", f".type {label}, @function", f"{label}: ud2"]
        if version:
            assembly.append(f".symver {label}, {name}@@{version}")
            versions[version] = f"{version} {{}};"
    source, script, compiled = (library.with_suffix(suffix) for suffix in (".s", ".map", ".o"))
    source.write_text("\n".join(assembly) + "\n")
    script.write_text("\n".join(versions.values()) + "\n")
    (name,) = re.findall(r"\(SONAME\).*\[(.+)\]", run("readelf", "-d", library))
    run("as", "-o", compiled, source)
    options: list[str | Path] = ["--version-script", script] if versions else []
    run("ld", "-shared", "-z", "noexecstack", "-soname", name, *options, "-o", library, compiled)
    for path in (source, script, compiled):
        path.unlink()


def remove_unneeded(libraries: Path, module: Path) -> None:
    """Remove the libraries that `module` no longer needs, not even by way of others."""
    needed: set[Path] = set()
    waiting = [module]
    while waiting:
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-d", waiting.pop())):
            path = libraries / name
            if path.exists() and path not in needed:
                needed.add(path)
                waiting.append(path)
    for path in set(libraries.iterdir()) - needed:
        path.unlink()


def symbols(library: Path, which: str) -> Iterator[str]:
    """The names of a library's dynamic symbols, such as "cblas_dgemm" or "av_frame_alloc@LIBAVUTIL_60"."""
    for line in run("nm", "-D", which, library).splitlines():
        yield line.split()[-1]


def run(*command: str | Path) -> str:
    """What a program of binutils prints. Raises where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        sys.exit(f"error: {command[0]}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
