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
    help="Create, list and revoke API keys. A running server applies changes within a second.",
    epilog="Example: fashion-mnist keys create --name dashboard --file keys.json",
    no_args_is_help=True,
)

File = Annotated[Path | None, typer.Option(help="The key file; by default the one in the settings.")]


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="The owner's name, for the list.")],
    scope: Annotated[list[str] | None, typer.Option(help="predict (the default) or admin. Repeat it for both.")] = None,
    days: Annotated[int | None, typer.Option(help="Days until it expires; by default never.", min=1)] = None,
    file: File = None,
) -> None:
    """Create a key and print it. It cannot be shown again: the file has only its digest.

    Example: `fashion-mnist keys create --name grafana --scope admin --days 365 --file keys.json`
    """
    path = _path(file)
    text, key = gateway_keys.create(name, scope or [gateway_keys.PREDICT], None if days is None else days * _DAY_S)
    with gateway_keys.editing(path) as known:
        known.append(key)
    # The key alone on stdout, so that it can be assigned to a variable or written to a file.
    print(text)
    until = f"until {key.expires}" if key.expires else "without expiry"
    Console(stderr=True, soft_wrap=True).print(
        f"{key.id} for {', '.join(key.scopes)}, {until}, in {escape(str(path))}; "
        "clients send it as `Authorization: Bearer KEY`",
        highlight=False,
    )


@keys.command("list")
def list_keys(file: File = None) -> None:
    """List the keys, without their secrets.

    Example: `fashion-mnist keys list --file keys.json`
    """
    table = Table("id", "name", "scopes", "created", "expires")
    for key in gateway_keys.read(_path(file)):
        table.add_row(key.id, escape(key.name), ", ".join(key.scopes), key.created, key.expires or "never")
    Console().print(table)


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows, or the key itself.")],
    file: File = None,
) -> None:
    """Revoke a key: requests with it are refused from now on.

    Example: `fashion-mnist keys revoke fm_1a2b3c4d --file keys.json`
    """
    path = _path(file)
    gateway_keys.read(path)
    with gateway_keys.editing(path) as known:
        revoked = [key for key in known if key.id == id[: len(key.id)]]
        if not revoked:
            raise UsageError(f"{path} has no key {id[:11]!r}: `fashion-mnist keys list` shows all keys")
        known.remove(revoked[0])
    print(f"{revoked[0].id} is revoked")


def _path(file: Path | None) -> Path:
    if file is not None:
        return file
    if configured := Settings.from_environment().key_file:
        return Path(configured)
    raise UsageError("there is no key file: name one with --file, or set FASHION_MNIST_KEY_FILE")
