"""`fashion-mnist settings`: the settings' table, as in docs/reference/settings.md."""

from fashion_mnist.settings import table


def markdown() -> str:
    """The table in Markdown."""
    rows = ["| setting | type | default | environment variable | description |", "|---|---|---|---|---|"]
    for row in table():
        kind = row["type"].replace("|", "\\|")
        default = f"`{row['default']}`" if row["default"] else ""
        rows.append(f"| {row['name']} | {kind} | {default} | `{row['variable']}` | {row['help']} |")
    return "\n".join(rows)


def settings() -> None:
    """Print every setting with its default, its environment variable and its description.

    Example: `FASHION_MNIST_PORT=9000 fashion-mnist serve`
    """
    print(markdown())
