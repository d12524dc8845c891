"""The page's modules: their own tests in Node.js, and the released model in a browser's runtime."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import open_engine

PAGE = Path(__file__).parents[2] / "page"
DEADLINE_S = 240


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, and the packages that the page's tests import."""
    found = shutil.which("node")
    if found is None or not (PAGE / "node_modules").is_dir():
        pytest.skip("needs Node.js and the page's packages: apt-get install nodejs npm, then make page-tools")
    return found


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=PAGE, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_the_modules_pass_their_own_tests(node: str) -> None:
    done = run(node, "--test")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "\n# pass 0\n" not in done.stdout


def test_a_browsers_runtime_gives_the_same_labels_for_all_test_images(
    node: str, dataset: Dataset, model_store: Path, tmp_path: Path
) -> None:
    images = dataset.test.images
    probabilities = open_engine(model_store, "onnx", "cpu").predict(images)
    images.tofile(tmp_path / "images")
    probabilities.astype("<f4").tofile(tmp_path / "probabilities")
    files = [str(model_store / "model.onnx"), str(tmp_path / "images"), str(tmp_path / "probabilities")]
    done = run(node, "tests/released_model.js", *files, str(len(CLASSES)))
    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout)
    assert compared["images"] == len(images)
    assert compared["labels_that_differ"] == 0
    assert compared["largest_difference"] <= 1e-5
