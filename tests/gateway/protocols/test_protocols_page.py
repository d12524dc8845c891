"""What docs/reference/protocols.md says of protocols is true: the calls run, and the tables are those of the code."""

import json
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.grpc.calls import STATUSES
from gateway.protocols import inference_pb2 as pb
from tests.environments import programs
from tests.support.command import ServeCommand

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "protocols.md").read_text()
CALLS = re.findall(r"\| (\d+) \| `(.*?)` \|$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize(("port", "call"), CALLS, ids=range(len(CALLS)))
def test_a_call_of_the_page(embedded: ServeCommand, port: str, call: str) -> None:
    addresses = {"8080": urlsplit(embedded.url).netloc, "8085": f"127.0.0.1:{embedded.state().grpc_port}"}
    command = call.replace(f"127.0.0.1:{port}", addresses[port])
    command = re.sub("^python ", f"{programs('tritonclient') / 'python'} ", command)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    if command.startswith("curl"):
        assert "error" not in json.loads(done.stdout)
    assert "Coat" in done.stdout


def test_each_protocol_has_a_call() -> None:
    assert len(CALLS) == 4


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
    assert documented == {status: code.name for status, code in STATUSES.items()}
