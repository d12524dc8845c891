"""`fashion-mnist keys`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fashion_mnist.errors import UsageError
from fashion_mnist.settings import Settings
from gateway.http import keys as gateway_keys

_DAY_S = 24 * 60 * 60

keys = typer.Typer(
    help="Make, list and revoke the keys that requests must carry. A running server notices within a second.",
    epilog="Example: fashion-mnist keys create --name dashboard --file keys.json",
    no_args_is_help=True,
)

File = Annotated[Path | None, typer.Option(help="File of the keys; by default that of the settings.")]


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is, for the list.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict (the default) or admin, or both by naming it twice.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="Days until it expires; by default it never does.", min=1)] = None,
    file: File = None,
) -> None:
    """Make a key and print it. It is shown only now: the file keeps its digest.

    Example: `fashion-mnist keys create --name grafana --scope admin --days 365 --file keys.json`
    """
    path = _path(file)
    text, key = gateway_keys.create(name, scope or [gateway_keys.PREDICT], None if days is None else days * _DAY_S)
    with gateway_keys.editing(path) as known:
        known.append(key)
    # Alone on its line and on stdout, so that it can go into a variable or a file.
    print(text)
    until = f"until {key.expires}" if key.expires else "without an end"
    Console(stderr=True, soft_wrap=True).print(
        f"{key.id} for {', '.join(key.scopes)}, {until}, in {escape(str(path))}; "
        "clients send it as `Authorization: Bearer KEY`",
        highlight=False,
    )


@keys.command("list")
def list_keys(file: File = None) -> None:
    """List the keys: all that is known of them, which is not the keys.

    Example: `fashion-mnist keys list --file keys.json`
    """
    table = Table("id", "name", "scopes", "created", "expires")
    for key in gateway_keys.read(_path(file)):
        table.add_row(key.id, escape(key.name), ", ".join(key.scopes), key.created, key.expires or "never")
    Console().print(table)


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it; the key itself will do.")],
    file: File = None,
) -> None:
    """Revoke a key: nobody gets in with it any more.

    Example: `fashion-mnist keys revoke fm_1a2b3c4d --file keys.json`
    """
    path = _path(file)
    gateway_keys.read(path)
    with gateway_keys.editing(path) as known:
        revoked = [key for key in known if key.id == id[: len(key.id)]]
        if not revoked:
            raise UsageError(f"{path} has no key {id[:11]!r}; `fashion-mnist keys list` shows those that it has")
        known.remove(revoked[0])
    print(f"{revoked[0].id} is revoked")


def _path(file: Path | None) -> Path:
    if file is not None:
        return file
    if configured := Settings.from_environment().key_file:
        return Path(configured)
    raise UsageError("no file of keys: name one with --file, or set FASHION_MNIST_KEY_FILE")
