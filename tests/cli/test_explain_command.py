"""`fashion-mnist explain`, as a person types it."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli import app
from fashion_mnist.errors import FashionMNISTError, InputError, ModelError, UsageError


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["explain", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_draws_the_layers_and_says_the_answer(model_store: Path, tmp_path: Path) -> None:
    output = tmp_path / "drawn.png"
    assert run(model_store / "samples" / "ankle_boot.png", "--output", output).startswith("Ankle boot: 9")
    with Image.open(output) as drawn:
        assert min(drawn.size) > 500


def test_writes_beside_where_it_is_called(model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(model_store / "samples" / "bag.png")
    assert [path.name for path in tmp_path.iterdir()] == ["bag-explained.png"]


@pytest.mark.parametrize(
    ("content", "arguments", "error", "message"),
    [
        (b"no image at all", [], InputError, "neither an image file"),
        (bytes(2 * 784), [], InputError, "2 images instead of one"),
        (bytes(784), ["--prepare", "some"], UsageError, "choose one of auto"),
        (bytes(784), ["--output", "image"], UsageError, "the image itself"),
    ],
)
def test_says_what_to_do_about(
    content: bytes,
    arguments: list[str],
    error: type[FashionMNISTError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("image").write_bytes(content)
    with pytest.raises(error, match=message):
        run("image", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_model_without_the_graph_says_how_to_make_it(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASHION_MNIST_MODEL_STORE", str(tmp_path))
    with pytest.raises(ModelError, match="run `fashion-mnist export`"):
        run(model_store / "samples" / "bag.png", "--output", tmp_path / "drawn.png")
