"""docker-compose.yml as Docker Compose v2 reads it, which people have and Debian 12 has not."""

import json
import subprocess
from pathlib import Path

import pytest

from tests import environments

ROOT = Path(__file__).resolve().parents[2]
FILES = [["docker-compose.yml"], ["docker-compose.yml", "compose.auth.yml"]]


@pytest.mark.parametrize("files", FILES, ids=lambda files: files[-1])
def test_compose_v2_reads_every_profile(files: list[str]) -> None:
    programs = environments.programs("compose")
    # The package's own command hides the exit status of the program that it wraps.
    program = next(programs.parent.glob("lib/python*/site-packages/compose/docker-compose"))
    command = [str(program), *(option for file in files for option in ("--file", file))]
    command += ["--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    services = json.loads(done.stdout)["services"]
    assert {
        "server",
        "embedded",
        "gpu",
        "load-master",
        "load-worker",
        "train",
        "prometheus",
        "grafana",
    } <= services.keys()
    assert services["server"]["build"]["target"] == "torchserve-cpu"
