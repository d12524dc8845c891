"""The settings: one table, and nothing that it does not know."""

from pathlib import Path

import pytest

from fashion_mnist.errors import UsageError
from fashion_mnist.settings import RENAMED, Settings, table


def test_the_environment_then_the_arguments_decide() -> None:
    environment = {"FASHION_MNIST_PORT": "9000", "FASHION_MNIST_RUNTIME": "torchscript", "PATH": "/bin"}
    assert Settings.from_environment(environment).port == 9000
    assert Settings.from_environment(environment, port=9001, runtime=None).port == 9001
    assert Settings.from_environment(environment, runtime=None).runtime == "torchscript"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FASHION_MNIST_PROT", "9000", "not a setting"),
        ("FASHION_MNIST_PORT", "many", "integer"),
        ("FASHION_MNIST_PORT", "-1", "minimum is 0"),
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


def test_paths_mean_the_same_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"FASHION_MNIST_KEY_FILE": "keys.json"}, model_store="../store")
    assert settings.key_file == str(tmp_path / "keys.json")
    assert settings.model_store == str(tmp_path.parent / "store")
    assert Settings.from_environment({}).tls_key == ""


@pytest.mark.parametrize("key", ["fm_1\n", "fm_1\r", "fm_1 ", " fm_1", "fm_é", "fm_\0"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError) as raised:
        Settings.from_environment({"FASHION_MNIST_KEY": key})
    assert "FASHION_MNIST_KEY" in raised.value.message
    assert "fm_" not in raised.value.message


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_is_refused_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(UsageError, match=f"FASHION_MNIST_{new.upper()}"):
        Settings.from_environment({f"FASHION_MNIST_{old.upper()}": "1"})
    assert new in {row["name"] for row in table()}
