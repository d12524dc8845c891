"""`fashion-mnist models`."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fashion_mnist.errors import ServingError, Unavailable
from fashion_mnist.settings import Settings
from fashion_mnist.system.addresses import checked_url, open_http
from serving import state

TIMEOUT_S = 300.0
"""Long enough for TorchServe to start on a busy machine; the server's own timeout is shorter."""

models = typer.Typer(
    help="List, load and unload versions of the model on a running server, and choose the default.",
    epilog="Example: fashion-mnist models load /srv/models/1.1 && fashion-mnist models use 1.1",
    no_args_is_help=True,
)

Url = Annotated[
    str | None, typer.Option(help="URL of the server's admin port; by default that of the server on this machine.")
]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="The version that `list` shows.")]


@models.command("list")
def list_models(url: Url = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the versions, and which one is the default for requests that name none.

    Example: `fashion-mnist models list`
    """
    listed = _ask("GET", "", url)["versions"]
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    table = Table("version", "engine", "state", "default")
    table.add_column("since, UTC", no_wrap=True)
    table.add_column("requests", justify="right")
    table.add_column("accuracy", justify="right")
    for row in listed:
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        state_of = f"{row['state']}: {row['reason']}" if row["reason"] else row["state"]
        default = "yes" if row["default"] else ""
        loaded = datetime.fromisoformat(row["loaded"]).strftime("%d %b %H:%M")
        cells = (row["version"], row["engine"], state_of, default, loaded, f"{row['requests']:,}", accuracy)
        table.add_row(*map(escape, cells))
    Console().print(table)


@models.command()
def load(
    folder: Annotated[Path, typer.Argument(help="Folder on the server's machine that `fashion-mnist export` wrote.")],
    without_data: Annotated[
        bool, typer.Option("--without-data", help="Only run the health check, if the server has no data set.")
    ] = False,
    url: Url = None,
) -> None:
    """Load a version beside the others. It is warmed up and checked before clients can request it by name.

    It must pass the health check, and reach its card's accuracy on the test images. Otherwise it is unloaded again and
    nothing has changed. The default does not change: see `use`.

    Example: `fashion-mnist models load /srv/models/1.1`
    """
    sent = {"folder": str(folder.absolute()), "without_data": without_data}
    with Console(stderr=True).status("loading and checking"):
        found = _ask("POST", "", url, sent)
    if found["accuracy"] is None:
        checked = "it passed the health check; the test images were not used"
    else:
        checked = (
            f"it passed the health check, with an accuracy of {found['accuracy']:.2%} on {found['images']:,} test "
            f"images ({found['card_accuracy']:.2%} in its card)"
        )
    print(f"version {found['version']} is loaded ({found['seconds']} s): {checked}")
    print(f"  fashion-mnist models use {found['version']}")


@models.command()
def use(version: Version, url: Url = None) -> None:
    """Make a loaded version the default for requests that name none. To roll back, use the previous one.

    It applies to new requests at once; requests in flight finish with the version that they started with.

    Example: `fashion-mnist models use 1.1`
    """
    _ask("PUT", f"/{quote(version, safe='')}/set-default", url)
    print(f"version {version} is the default")


@models.command()
def unload(version: Version, url: Url = None) -> None:
    """Unload a version that is not the default, after its requests in flight are answered.

    Example: `fashion-mnist models unload 1.0`
    """
    _ask("DELETE", f"/{quote(version, safe='')}", url)
    print(f"version {version} is unloaded")


def _ask(method: str, path: str, url: str | None, sent: Any = None) -> Any:
    """The server's answer. Raises ServingError with its message if it refuses, Unavailable if it does not answer."""
    settings = Settings.from_environment()
    url = checked_url(url or _url(settings))
    headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
    try:
        with open_http(httpx.Client, url, headers=headers, timeout=TIMEOUT_S) as http:
            response = http.request(method, f"{url}/models{path}", json=sent)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"{url} does not answer ({error or type(error).__name__}): start the server with `fashion-mnist serve`, or "
            "name its admin port with --url"
        ) from None
    try:
        document = response.json()
        if response.status_code == httpx.codes.OK:
            return document
        raise ServingError(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        raise ServingError(
            f"{url} answered {response.status_code} {response.text[:100]!r}: name the server's admin port with --url"
        ) from None


def _url(settings: Settings) -> str:
    """The URL of the admin port: that of the user's own server on the settings' port, else that of the settings."""
    running = state.read(settings.port, settings.host)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.admin_host, settings.admin_host)
    tls = running.tls if running else bool(settings.tls_certificate)
    port = running.admin_port if running else settings.admin_port
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
