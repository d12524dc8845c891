"""The settings: one table, and nothing that it does not know."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from fashion_mnist.errors import UsageError
from fashion_mnist.settings import RENAMED, Settings, find_settings, table


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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file in a folder that is not the working directory."""
    path = tmp_path / "elsewhere" / "server.toml"
    path.parent.mkdir()
    path.write_text('port = 9000\nruntime = "torchscript"\nkey_file = "keys.json"\n')
    return path


def test_a_flag_goes_before_the_environment_and_that_before_the_file(file: Path) -> None:
    environment = {"FASHION_MNIST_CONFIG": str(file), "FASHION_MNIST_PORT": "9001"}
    assert find_settings({"FASHION_MNIST_CONFIG": str(file)})["port"] == (9000, str(file))
    assert find_settings(environment)["port"] == (9001, "environment")
    assert find_settings(environment, port=9002)["port"] == (9002, "flag")
    assert Settings.from_environment(environment).runtime == "torchscript"
    assert "device" not in find_settings(environment)


def test_paths_in_the_file_are_beside_it(file: Path) -> None:
    found = Settings.from_environment({"FASHION_MNIST_CONFIG": str(file)})
    assert found.key_file == str(file.parent / "keys.json")


def test_the_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fashion-mnist.toml").write_text("max_images = 7\n")
    assert Settings.from_environment().max_images == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prot = 9000", "prot in .*server.toml is not a setting"),
        ("gpu_batch = 1", "max_gpu_batch since version 2.0"),
        ('port = "many"', "port is 'many'"),
        ("port = true", "port is True"),
        ("port 9000", "is not TOML"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        Settings.from_environment({"FASHION_MNIST_CONFIG": str(file)})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Settings.from_environment({"FASHION_MNIST_CONFIG": str(tmp_path / "none.toml")})


def test_ports_that_belong_together_move_together() -> None:
    ports = ("port", "grpc_port", "admin_port")

    def chosen(**flags: int) -> list[int]:
        found = Settings.from_environment({}, **flags)
        return [getattr(found, name) for name in ports]

    assert chosen() == [8080, 8085, 8086]
    assert chosen(port=9000) == [9000, 9005, 9006]
    assert chosen(port=9000, admin_port=7000) == [9000, 9005, 7000]
    assert chosen(port=0) == [0, 0, 0]


def test_the_command_says_values_and_where_they_are_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_MNIST_KEY", "fm_secret")
    monkeypatch.setenv("FASHION_MNIST_CONFIG", "")
    done = CliRunner().invoke(app, ["--config", str(file), "settings", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (rows["port"]["value"], rows["port"]["source"]) == (9000, str(file))
    assert (rows["grpc_port"]["value"], rows["grpc_port"]["source"]) == (9005, "port")
    assert (rows["device"]["value"], rows["device"]["source"]) == ("auto", "default")
    assert (rows["key"]["value"], rows["key"]["source"]) == ("(set)", "environment")
    assert "fm_secret" not in done.stdout


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
