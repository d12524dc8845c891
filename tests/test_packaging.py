"""Set-up: every dependency pinned and hashed, nothing of anybody's machine in the repository, a second run idle."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements/*.txt"))


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[\[>=<]", requirement)[0].lower()
        for group in [project["dependencies"], *project["optional-dependencies"].values()]
        for requirement in group
    }
    assert wanted <= pins(ROOT / "requirements/cuda.txt").keys()
    assert wanted <= (pins(ROOT / "requirements/cpu.txt") | pins(ROOT / "requirements/torch-cpu.txt")).keys()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_hashes_and_no_address(lock: Path) -> None:
    content = lock.read_text()
    assert re.match(r"# \d+ packages, \d+ MB\.", content)
    assert content.count("--hash=sha256:") >= len(pins(lock)) > 0
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
    for lock in LOCKS:
        assert lock.stem == "torch-cpu" or pins(lock)["torchserve"] == "0.12.0"


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
    for target in ("serve", "test", "check", "train", "bench", "lock"):
        assert f"make {target}" in done.stdout


def test_the_top_level_names() -> None:
    for name in ("model_store", "handlers", "export", "loadtest", "tests", "docker-compose.yml", "README.md"):
        assert (ROOT / name).exists()
