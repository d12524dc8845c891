"""The pages about the code, of the architecture and CONTRIBUTING.md, name files, classes and functions that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
PAGES = {path.name: path.read_text() for path in (ARCHITECTURE, ROOT / "CONTRIBUTING.md")}
NAMED = [
    (path, names) for page in PAGES.values() for path, names in re.findall(r"`([\w/]+\.py)`[^`(]*\(([^)]*)\)", page)
]


def defined(path: Path) -> set[str]:
    """Names of a module: functions, classes, and methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if hasattr(inner, "name")}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    paths = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", PAGES[page])
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("path", "names"), NAMED)
def test_every_name_is_defined_where_the_page_says(path: str, names: str) -> None:
    wanted = re.findall(r"`(\w+(?:\.\w+)?)`", names)
    assert wanted
    assert set(wanted) <= defined(ROOT / path)


def test_folders_are_described() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"requirements"}
    assert {name for name in packages if f"`{name}/`" not in PAGES[ARCHITECTURE.name]} == set()
