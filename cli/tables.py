"""Tables: drawn to fit a terminal, otherwise Markdown."""

import sys
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = Sequence[str]


def print_table(head: Row, rows: Sequence[Row], *, numbers_from: int = 1, folded: int | None = None) -> None:
    """Print a table. Columns from `numbers_from` on are aligned right; only column `folded` may wrap."""
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
    """A table in Markdown, from its header and rows."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def ending(text: str, width: int) -> str:
    """The end of a text that is too long for a column, such as that of paths, which differ there."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
