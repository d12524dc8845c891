"""docs/protocols.md's words are true: its calls run, and its tables are those of the code."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway.grpc_call import STATUSES
from gateway.protocols import inference_pb2 as pb
from tests.environments import programs
from tests.gateway.command import ServeCommand

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocols.md").read_text()
CALLS = re.findall(r"`(curl .*?)` \|$", PAGE, flags=re.MULTILINE)
GRPC_NAMES = {
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    12: "UNIMPLEMENTED",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.rpartition("8080")[2])
def test_a_call_of_the_table(embedded: ServeCommand, call: str) -> None:
    assert len(CALLS) == 3
    address = embedded.url.removesuffix("/predictions/fashion_mnist")
    command = call.replace("http://127.0.0.1:8080", address).replace("curl", "curl -s", 1)
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert '"Ankle boot"' in json.dumps(json.loads(done.stdout))
    assert "error" not in json.loads(done.stdout)


def test_the_call_by_grpc(embedded: ServeCommand, tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    program = program.replace("127.0.0.1:8085", f"127.0.0.1:{embedded.state().grpc_port}")
    done = subprocess.run(
        [programs("tritonclient") / "python", "-c", program],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[b'Sneaker']\n"


def test_every_call_of_the_service_is_named() -> None:
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        assert f"`{method.name}`" in PAGE


def test_the_table_of_statuses_is_the_codes() -> None:
    rows = re.findall(r"^\| ([\d, ]+)[^|]*\| ([A-Z_]+) \|$", PAGE, flags=re.MULTILINE)
    documented = {int(status): name for statuses, name in rows for status in re.findall(r"\d+", statuses)}
    assert documented == {status: GRPC_NAMES[code] for status, code in STATUSES.items()}
