"""How threads wait: asleep, in every program of ours, whichever of our modules it begins with."""

import os
import subprocess
import sys

import pytest

_IMPORT = """
import importlib, os, sys

class Watch:
    def find_spec(self, name, *_):
        if name in ("torch", "onnxruntime"):
            print(name, os.environ.get("OMP_WAIT_POLICY"))
        return None

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


def policies(module: str, **environment: str) -> set[str]:
    """The policy that torch and ONNX Runtime are imported under, by a process that begins with this module."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", _IMPORT, module]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, timeout=60, check=True)
    return {line.split()[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    "module",
    [
        "benchmarks.stock",
        "export.parity",
        "fashion_mnist.engines.onnx",
        "fashion_mnist.engines.torchscript",
        "training.fused",
        "training.timing",
    ],
)
def test_threads_sleep_while_they_wait(module: str) -> None:
    assert policies(module) == {"passive"}


def test_whoever_sets_the_policy_is_heard() -> None:
    assert policies("training.fused", OMP_WAIT_POLICY="active") == {"active"}


def test_the_command_and_what_it_starts_have_it() -> None:
    script = "import cli, os, sys; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=inherited, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "passive\n"
