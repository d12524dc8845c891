"""Tables: for people on a terminal drawn to fit it, for all else Markdown."""

import sys
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = Sequence[str]


def print_table(head: Row, rows: Sequence[Row], *, numbers_from: int = 1, folded: int | None = None) -> None:
    """Print a table. Columns from `numbers_from` on are aligned to the right; column `folded` alone may break lines."""
    if not sys.stdout.isatty():
        print(markdown([head, *rows]))
        return
    table = Table()
    for place, name in enumerate(head):
        side: Literal["left", "right"] = "right" if place >= numbers_from else "left"
        table.add_column(escape(name), justify=side, no_wrap=folded not in (None, place), overflow="fold")
    for row in rows:
        bold = "bold" if row[0].startswith("**") else None
        table.add_row(*(escape(cell.strip("*`")) for cell in row), style=bold)
    Console().print(table)


def markdown(rows: Sequence[Row]) -> str:
    """A table in Markdown, its head first."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def ending(text: str, width: int) -> str:
    """The end of a text that is too long for a column: of paths it is what differs."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
