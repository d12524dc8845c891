"""`fashion-mnist export` and `fashion-mnist archive`, as a person types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from fashion_mnist.errors import UsageError
from fashion_mnist.system import checksums


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_export_prints_parity_and_writes_the_store(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.corruptions.load", lambda images: None)  # as where none were made yet
    output = tmp_path / "store"
    command = ["export", "--weights", str(model_store / "weights.pt"), "--output", str(output), "--version", "3.1"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "accuracy on corrupted images: not measured" in done.stdout
    parity = json.loads((output / "model_card.json").read_bytes())["parity"]["engines"]
    for engine, row in parity.items():
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"| {engine} |"))
        assert [cell.strip() for cell in line.split("|")[1:-1]] == [
            engine, "10,000", "0", f"{row['largest_difference']:.1e}", "1e-05",
        ]  # fmt: skip
    for name in ("weights.pt", "model.onnx", "model.torchscript.pt"):
        assert checksums.of(output / name) in done.stdout
    assert "version 3.1" in done.stdout
    assert str(output) in done.stdout


def test_archive_writes_where_it_is_told(model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_MNIST_MODEL_STORE", str(model_store))
    output = tmp_path / "deep" / "fashion_mnist.mar"
    done = CliRunner().invoke(app, ["archive", "--output", str(output)], catch_exceptions=False)
    assert done.exit_code == 0
    assert output.is_file()
    assert "fashion_mnist_handler.py" in done.stdout
    assert f"{output} ({output.stat().st_size:,} bytes)" in done.stdout


def test_a_bad_version_is_the_person_s_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="version"):
        CliRunner().invoke(
            app, ["export", "--output", str(tmp_path), "--version", "a/b", "--no-robustness"], catch_exceptions=False
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["export", "archive"])
def test_help_has_examples(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Examples" in done.stdout
    assert f"fashion-mnist {command} --" in done.stdout
