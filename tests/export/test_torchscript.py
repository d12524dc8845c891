"""TorchScript: a file that stands alone, the same each time."""

import subprocess
import sys
import zipfile
from pathlib import Path

from export import torchscript
from export.folding import ForTorchScript
from export.release import Release
from fashion_mnist.network import load_weights
from fashion_mnist.system import checksums
from fashion_mnist.task import FASHION_MNIST

NAME = "model.torchscript.pt"


def test_the_same_weights_give_the_same_bytes(exported: Release, tmp_path: Path) -> None:
    # A second export in a process that has traced before, and for good measure something else between.
    folded = ForTorchScript(load_weights(exported.folder / "weights.pt"))
    torchscript.export(folded, tmp_path / "other.pt", FASHION_MNIST.geometry)
    torchscript.export(folded, tmp_path / NAME, FASHION_MNIST.geometry)
    assert (tmp_path / NAME).read_bytes() == (exported.folder / NAME).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "other.pt"]


def test_names_no_file_of_the_machine_that_wrote_it(exported: Release) -> None:
    with zipfile.ZipFile(exported.folder / NAME) as file:
        for name in file.namelist():
            assert b'.py"' not in file.read(name), name
            assert str(Path(torchscript.__file__).parents[1]).encode() not in file.read(name), name
            assert not name.endswith(".debug_pkl")


def test_is_in_the_format_that_the_oldest_torch_reads(exported: Release) -> None:
    """torch 2.6, the oldest that pyproject.toml allows, reads 3 to 10, and does give the same probabilities as 2.13."""
    with zipfile.ZipFile(exported.folder / NAME) as file:
        assert file.read("model.torchscript/version") == b"3\n"


def test_loads_without_this_package_and_takes_any_batch(exported: Release, tmp_path: Path) -> None:
    program = (
        "import sys, torch\n"
        "model = torch.jit.load(sys.argv[1])\n"
        "for size in (1, 2, 7):\n"
        "    answer = model(torch.zeros(size, 1, 28, 28, dtype=torch.uint8))\n"
        "    assert answer.dtype == torch.float32 and answer.shape == (size, 10), answer\n"
        "assert not list(model.parameters()) and not list(model.buffers()), 'not frozen'\n"
        "assert 'fashion_mnist' not in sys.modules and 'export' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, str(exported.folder / NAME)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_lets_no_warning_out(exported: Release, tmp_path: Path) -> None:
    folded = ForTorchScript(load_weights(exported.folder / "weights.pt"))
    torchscript.export(folded, tmp_path / NAME, FASHION_MNIST.geometry)
    assert checksums.of(tmp_path / NAME) == exported.card["files"][NAME]["sha256"]
