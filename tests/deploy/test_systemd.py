"""The systemd unit: systemd takes it as it is, and it starts a command that exists."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "fashion-mnist.service"


def test_systemd_takes_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze: apt-get install systemd")
    # It wants a program that is there.
    program = tmp_path / "fashion-mnist"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={program}", UNIT.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert UNIT.stem not in done.stderr


def test_it_starts_the_server_with_its_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_MNIST_CONFIG", "")  # which the command sets, and which is as before in the end
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    _, *arguments = unit["Service"]["ExecStart"].split()
    assert arguments[0] == "--config"
    # With --help in the end, what cannot be parsed is still an error.
    assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
