"""`fashion-mnist settings`: the settings' table, as in docs/reference/settings.md."""

import json
from typing import Annotated

import typer

from cli.tables import print_table
from fashion_mnist.settings import Settings, find_settings, table


def markdown() -> str:
    """The table in Markdown."""
    rows = ["| setting | type | default | environment variable | description |", "|---|---|---|---|---|"]
    for row in table():
        kind = row["type"].replace("|", "\\|")
        default = f"`{row['default']}`" if row["default"] else ""
        rows.append(f"| {row['name']} | {kind} | {default} | `{row['variable']}` | {row['help']} |")
    return "\n".join(rows)


def settings(
    reference: Annotated[bool, typer.Option("--reference", help="Print types and defaults instead of values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting with its value and what gave it: a flag, the environment, the settings file or the default.

    Examples:

    `FASHION_MNIST_PORT=9000 fashion-mnist settings`

    `fashion-mnist --config fashion-mnist.toml settings`
    """
    if reference:
        print(markdown())
        return
    found = find_settings()
    current = Settings.from_environment()
    rows = []
    for row in table():
        value = getattr(current, row["name"])
        shown = "(set)" if row["secret"] and value else value
        source = found[row["name"]].source if row["name"] in found else "default"
        rows.append({"name": row["name"], "value": shown, "source": source, "help": row["help"]})
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(
            ["setting", "value", "source", "what it is"], [list(map(str, row.values())) for row in rows],
            numbers_from=4, folded=3,
        )  # fmt: skip
