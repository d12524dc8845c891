"""The images: no larger than promised, nothing in them that nobody needs, and a model that is checked."""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy import sizes
from fashion_mnist.system import checksums
from tests.containers.building import ROOT
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine
from tests.support.command import wait_until

BUILT = ("embedded", "torchserve-cpu", "loadtest", "train")
"""Without torchserve-gpu, whose packages are gigabytes and whose GPU is not here."""

SERVERS = ("embedded", "torchserve-cpu")
LOCKED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp:exec,mode=1777")
PAGES = (ROOT / "docs" / "how-to" / "containers.md",)


@contextmanager
def container(engine: Engine, *arguments: str) -> Iterator[str]:
    """A container that may not change anything, removed in the end; its id."""
    name = engine.docker("run", "--detach", *LOCKED, *arguments)
    try:
        yield name
    finally:
        engine.docker("rm", "--force", "--volumes", name)


def said(engine: Engine, name: str) -> str:
    done = engine.run(["docker", "logs", name])
    return done.stdout + done.stderr


@pytest.mark.parametrize("target", BUILT)
def test_an_image_has_no_tools_no_keys_and_nothing_of_who_built_it(
    target: str, image: BuildImage, engine: Engine
) -> None:
    script = r"""
        for tool in pip pip3 gcc cc g++ ld as make git curl wget javac; do command -v "$tool"; done
        find / -xdev \( -name pip -o -name setuptools -o -name ensurepip -o -name wheels \) -not -path '/proc/*'
        grep -rIlE '^-----BEGIN [A-Z ]*PRIVATE KEY' /app /opt /etc /usr/local
        find /app /opt/venv -xdev ! -user root ! -path /app/runs
        find /app /opt/venv /usr -xdev -perm -o+w ! -type l
        env | grep -iE 'pip_|proxy|index'
        true
    """
    found = engine.docker("run", "--rm", "--network=none", *LOCKED, image(target), "sh", "-c", script)
    assert found == ""


@pytest.mark.parametrize("target", BUILT)
def test_its_user_can_write_to_the_temporary_folder_alone(target: str, image: BuildImage, engine: Engine) -> None:
    script = (
        "id -u; id -g; touch /tmp/x && echo written; touch /app/x /x; grep CapEff /proc/self/status; cat /proc/1/comm"
    )
    found = engine.run(["docker", "run", "--rm", "--network=none", *LOCKED, image(target), "sh", "-c", script])
    assert found.stdout.split() == ["10001", "10001", "written", "CapEff:", "0000000000000000", "tini"]
    assert found.stderr.count("Read-only file system") == 2


@pytest.mark.parametrize("target", sizes.ABOVE_BASE_MB)
def test_an_image_is_no_larger_than_promised(target: str, image: BuildImage, engine: Engine) -> None:
    assert image(target)
    found = sizes.layers(f"fashion-mnist:{target}", engine.environment())
    assert found is not None
    assert sum(size for _, size in found) <= sizes.ABOVE_BASE_MB[target] * 10**6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_table_of_sizes_is_what_is_measured(page: Path, image: BuildImage, engine: Engine) -> None:
    for target in BUILT:
        image(target)
    done = engine.run([sys.executable, ROOT / "deploy" / "sizes.py"])
    assert done.returncode == 0, done.stderr
    measured, written = figures(done.stdout), figures(page.read_text())
    assert set(BUILT) <= set(measured)
    for target in BUILT:
        # Debian's packages and the wheels' compiled files differ a little from day to day.
        assert written[target] == pytest.approx(measured[target], rel=0.05, abs=2)


def figures(text: str) -> dict[str, list[float]]:
    """The figures of each image's row."""
    rows = re.findall(r"^\| `([a-z-]+)` \| ([\d.,| ]+)$", text, flags=re.MULTILINE)
    return {name: [float(cell.replace(",", "")) for cell in cells.split("|")[:4]] for name, cells in rows}


@pytest.mark.parametrize("target", SERVERS)
def test_a_damaged_model_is_not_served(target: str, image: BuildImage, engine: Engine, tmp_path: Path) -> None:
    store = shutil.copytree(ROOT / "model_store", tmp_path / "store")
    content = bytearray((store / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (store / "model.onnx").write_bytes(content)
    mount = f"--volume={store}:/app/model_store:ro"
    with container(engine, mount, "--env=FASHION_MNIST_AUTH=off", image(target)) as name:
        wait_until(lambda: engine.inspect(name)["State"]["Status"] == "exited", "its end", 30)
        assert engine.inspect(name)["State"]["ExitCode"] == 1
        assert "error: /app/model_store/model.onnx does not match its checksum" in said(engine, name)


def test_a_mounted_model_takes_the_place_of_the_one_within(image: BuildImage, engine: Engine, tmp_path: Path) -> None:
    store = shutil.copytree(ROOT / "model_store", tmp_path / "store")
    card = store / "model_card.json"
    card.write_text(re.sub(r'"model_version": "[^"]+"', '"model_version": "9.9"', card.read_text()))
    checksums.write(store, checksums.read(store))
    options = [f"--volume={store}:/app/model_store:ro", "--env=FASHION_MNIST_AUTH=off", "--publish=127.0.0.1:0:8080"]
    with container(engine, *options, image("embedded")) as name:
        wait_until(lambda: engine.health(name) == "healthy", "healthy", 60)
        address = engine.docker("port", name, "8080").splitlines()[0]
        image_file = (ROOT / "model_store" / "samples" / "bag.png").read_bytes()
        answer = httpx.post(f"http://{address}/predictions/fashion_mnist", content=image_file, timeout=10).json()
        assert (answer["model_version"], answer["predictions"][0]["label"]) == ("9.9", "Bag")


def test_it_does_not_listen_to_others_before_somebody_has_decided_on_keys(image: BuildImage, engine: Engine) -> None:
    done = engine.run(["docker", "run", "--rm", *LOCKED, image("embedded")])
    assert done.returncode != 0
    assert "FASHION_MNIST_AUTH" in done.stderr


def test_training_runs_in_its_image_and_what_it_made_can_be_exported(image: BuildImage, engine: Engine) -> None:
    volume = engine.docker("volume", "create")
    try:
        options = ["run", "--rm", "--network=none", *LOCKED, f"--volume={volume}:/app/runs", image("train")]
        engine.docker(*options, "fashion-mnist", "train", "--epochs", "1", "--train-images", "20000", timeout_s=120)
        made = engine.docker(
            *options, "fashion-mnist", "export", "--weights", "runs/quick-0/weights.pt", "--output", "runs/store",
            timeout_s=120,
        )  # fmt: skip
        assert "test images (standard error" in made
    finally:
        engine.docker("volume", "rm", volume)
