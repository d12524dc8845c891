"""docs/reference/limits.md and SECURITY.md say what the code says, and name tests that exist."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from fashion_mnist.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
LIMITS = (ROOT / "docs" / "reference" / "limits.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
SETTINGS = {row.name for row in dataclasses.fields(Settings)}
UNITS = {"": 1, " MiB": 2**20}


@pytest.mark.parametrize(("name", "value"), re.findall(r"`([a-z_.]+\.[A-Z_]+)` = ([\d.]+)", LIMITS))
def test_figures_are_the_codes(name: str, value: str) -> None:
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(module), constant) == float(value)


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[\w/.:]+)` \|$", LIMITS, re.MULTILINE))))
def test_tests_are_there(test: str) -> None:
    file, _, name = test.partition("::")
    text = (ROOT / file).read_text()
    assert not name or re.search(rf"^(def|class) {name}\b", text, re.MULTILINE)


def test_every_resource_names_its_test() -> None:
    rows = [line for line in LIMITS.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert all(re.search(r"`tests/[\w/.:]+` \|$", row) for row in rows)


@pytest.mark.parametrize("row", re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", SECURITY, re.MULTILINE))
def test_settings_and_defaults_are_those_of_the_code(row: tuple[str, str]) -> None:
    names, defaults = re.findall(r"`(\w+)`", row[0]), re.findall(r"([\d,]*\d)( MiB)?(?:, |$)", row[1])
    assert names
    assert len(names) == len(defaults)
    for name, (figure, unit) in zip(names, defaults, strict=True):
        assert getattr(Settings(), name) == int(figure.replace(",", "")) * UNITS[unit]


@pytest.mark.parametrize("page", [LIMITS, SECURITY], ids=["limits", "security"])
def test_settings_exist(page: str) -> None:
    named = set(re.findall(r"`((?:max|health|receive|idle|engine)_[a-z_]+)`", page))
    assert named <= SETTINGS
