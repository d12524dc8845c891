"""The wheel is the whole product: built from the sdist, installed outside the checkout, it serves, loads and trains."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fashion_mnist import __version__
from tests.support.command import ServeCommand, serve_command, wait_until

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "cpu.txt"
UV = Path(sys.executable).parent / "uv"
OTHER = (3, 11) if sys.version_info[:2] != (3, 11) else (3, 13)
"""The other Python that it is installed for, where this machine has one."""

SERVE = "cpu,gateway"


@dataclass(frozen=True)
class Installed:
    """An environment with the product, and a folder to work in that has nothing of the checkout."""

    programs: Path
    folder: Path

    def run(self, *arguments: str | Path, timeout_s: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        return subprocess.run(
            [self.programs / "fashion-mnist", *arguments],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def clean_environment() -> dict[str, str]:
    """This one's, without what leads Python elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FASHION_MNIST_"))}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of what git would have of this checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of the sdist alone."""
    source = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as tar:
        tar.extractall(source, filter="data")
    return build("wheel", next(source.iterdir()), tmp_path_factory.mktemp("wheel"))


def build(kind: str, source: Path, folder: Path) -> Path:
    program = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
    run(sys.executable, "-W", "ignore", "-c", program, f"build_{kind}", folder, cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of this Python, with what serving needs."""
    return install(f"{wheel}[{SERVE}]", sys.executable, tmp_path_factory.mktemp("installed"))


def install(requirement: str, python: str, folder: Path) -> Installed:
    """Install a wheel or sdist with its extras, at the locked versions, into a new environment."""
    versions = [line.removesuffix(" \\") for line in LOCK.read_text().splitlines() if line[:1].isalnum()]
    (folder / "constraints.txt").write_text("\n".join(versions) + "\n")
    environment = folder / "environment"
    run(UV, "venv", "--quiet", "--no-config", "--python", python, environment, cwd=folder)
    options = ["--quiet", "--no-config", "--constraints", "constraints.txt"]
    run(UV, "pip", "install", *options, "--python", environment / "bin" / "python", requirement, cwd=folder)
    (folder / "work").mkdir()
    return Installed(environment / "bin", folder / "work")


@contextmanager
def serving(installed: Installed, *arguments: str) -> Iterator[ServeCommand]:
    """`serve` of an installed product, ready."""
    program = str(installed.programs / "fashion-mnist")
    with serve_command(installed.folder, *arguments, program=program, cwd=str(installed.folder)) as command:
        wait_until(lambda: command.times_ready() or command.process.poll() is not None, "ready")
        yield command


def test_it_has_every_file_of_its_rooms(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    rooms = {name.partition("/")[0] for name in packed}
    assert {"model_store", "loadtest", "training", "gateway"} <= rooms
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *sorted(rooms), cwd=ROOT).splitlines()
    never = ("page/tests/", "benchmarks/environments/", "requirements/")
    documents = (".md", ".in", "-lock.json", "package.json", "tsconfig.json", ".test.js", ".d.ts", ".npmrc")
    wanted = {
        name
        for name in listed
        if (ROOT / name).is_file()
        and (name.startswith("model_store/") or not name.endswith(documents))
        and not (name.startswith(never) and not name.endswith(".py"))
        and not (name.startswith("benchmarks/") and name.endswith(".png"))
    }
    assert wanted - packed == set()
    assert not [name for name in packed if name.endswith((".mar", ".pyc")) or "/results/" in name]


def test_it_says_its_version(installed: Installed) -> None:
    assert installed.run("--version").stdout == f"fashion-mnist {__version__}\n"


def test_it_serves_and_predicts_outside_the_checkout(installed: Installed) -> None:
    with serving(installed, "--engine", "embedded") as command:
        assert command.times_ready() == 1, command.said()
        sample = next(word for word in command.said().split() if word.startswith("/") and word.endswith(".png"))
        assert Path(sample).is_relative_to(installed.programs.parent)
        done = installed.run("predict", "--json", "--url", command.url, sample)
    assert json.loads(done.stdout)["predictions"][0]["label"] == "Ankle boot"


def test_it_predicts_without_a_server(installed: Installed) -> None:
    samples = next(installed.programs.parent.glob("lib/python*/site-packages/model_store/samples"))
    done = installed.run("predict", "--local", "--json", samples)
    assert len(json.loads(done.stdout)["predictions"]) == 10


def test_it_makes_keys(installed: Installed) -> None:
    assert installed.run("keys", "create", "--name", "one", "--file", "keys.json").returncode == 0
    assert "one" in installed.run("keys", "list", "--file", "keys.json").stdout


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("serve",), "torchserve"),
        (("train",), "train"),
        (("describe",), "train"),
        (("loadtest",), "loadtest"),
        (("archive", "--output", "fashion_mnist.mar"), "torchserve"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_a_missing_extra_is_one_line_that_names_it(installed: Installed, command: tuple[str, ...], extra: str) -> None:
    done = installed.run(*command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"pip install 'fashion-mnist-serving[{extra}]'" in line


def other_python() -> str | None:
    """The program of the other Python, where one is installed."""
    name = "python{}.{}".format(*OTHER)
    homes = Path.home() / ".pyenv" / "versions"
    for candidate in (shutil.which(name), *sorted(homes.glob("{}.{}.*/bin/python".format(*OTHER)))):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(candidate)
    return None


def test_the_sdist_serves_and_loads_on_another_python(sdist: Path, tmp_path: Path) -> None:
    python = other_python()
    if python is None:
        pytest.skip("there is no Python {}.{} here".format(*OTHER))
    installed = install(f"{sdist}[{SERVE},loadtest]", python, tmp_path)
    with serving(installed, "--engine", "embedded") as command:
        assert command.times_ready() == 1, command.said()
        host = command.url.partition("/predictions")[0]
        grpc = f"127.0.0.1:{command.state().grpc_port}"
        done = installed.run(
            "loadtest", "--scenario", "smoke", "--seconds", "4", "--clients", "2", "--host", host, "--grpc", grpc
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((installed.folder / "loadtest" / "results" / "result.json").read_text())["passed"]


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel's files before this environment's, which has every extra."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    programs = tmp_path_factory.mktemp("bin")
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); from cli import main; main()"
    (programs / "fashion-mnist").write_text(f"#!{sys.executable} -P\n{script}\n")
    (programs / "fashion-mnist").chmod(0o755)
    return Installed(programs, tmp_path_factory.mktemp("work"))


def test_it_describes_and_trains_with_its_own_kernels(unpacked: Installed) -> None:
    assert "32,998" in unpacked.run("describe").stdout
    options = ["--recipe", "quick", "--epochs", "1", "--train-images", "2000", "--kernels", "fused", "--run", "run"]
    done = unpacked.run("train", *options, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert (unpacked.folder / "run" / "weights.pt").is_file()


def test_it_packs_an_archive(unpacked: Installed) -> None:
    done = unpacked.run("archive", "--output", "fashion_mnist.mar")
    assert done.returncode == 0, done.stderr
    assert zipfile.is_zipfile(unpacked.folder / "fashion_mnist.mar")
