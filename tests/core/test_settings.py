"""The settings: one table, and nothing that it does not know."""

from pathlib import Path

import pytest

from cli.settings import markdown
from fashion_mnist.errors import UsageError
from fashion_mnist.settings import Settings, table

DOCUMENTED = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_documentation_has_the_table_of_the_code() -> None:
    assert markdown() in DOCUMENTED.read_text(), "run `fashion-mnist settings` and paste it into docs/settings.md"


def test_the_environment_then_the_arguments_decide() -> None:
    environment = {"FASHION_MNIST_PORT": "9000", "FASHION_MNIST_RUNTIME": "torchscript", "PATH": "/bin"}
    assert Settings.from_environment(environment).port == 9000
    assert Settings.from_environment(environment, port=9001, runtime=None).port == 9001
    assert Settings.from_environment(environment, runtime=None).runtime == "torchscript"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FASHION_MNIST_PROT", "9000", "no setting"),
        ("FASHION_MNIST_PORT", "many", "whole number"),
        ("FASHION_MNIST_PORT", "-1", "least is 0"),
        ("FASHION_MNIST_DEVICE", "tpu", "auto, cpu, cuda"),
    ],
)
def test_what_cannot_be_used_is_refused(variable: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings.from_environment({variable: value})


def test_the_handler_gets_its_part_and_nothing_else() -> None:
    settings = Settings(runtime="torchscript", max_images=7, port=9000)
    handed_over = settings.for_handler()
    assert "port" not in handed_over
    assert Settings.from_mapping(handed_over) == Settings(runtime="torchscript", max_images=7)
    with pytest.raises(UsageError, match="batchsize"):
        Settings.from_mapping({"batchsize": 3})


def test_every_row_is_explained() -> None:
    assert all(row["help"] and row["variable"] == f"FASHION_MNIST_{row['name'].upper()}" for row in table())
