"""The pages that people read, and the blocks of commands and programs in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
GENERATED: Final = re.compile(r"^<!-- (?:[Pp]rinted|[Gg]enerated) by .*?(?:^<!-- -->$|\Z)", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<note>[^>]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the comment right above it, and the line that it begins on."""

    page: str
    line: int
    language: str
    text: str
    note: str

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command of a `console` block with the output that is shown below it; a `sh` block is one command."""
        if self.language == "sh":
            yield self.text, ""
            return
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def pages() -> list[Path]:
    """What people read: README, CONTRIBUTING, SECURITY and every page of docs/."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [path for path in [*found, *sorted(DOCS.rglob("*.md"))] if path.exists()]


def written(path: Path) -> str:
    """A page's text without what commands wrote into it."""
    return GENERATED.sub(lambda match: "\n" * match[0].count("\n"), path.read_text())


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text, found = written(path), []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        name = path.relative_to(ROOT).as_posix()
        found.append(Block(name, line, match["language"], match["text"], match["note"] or ""))
    return found
