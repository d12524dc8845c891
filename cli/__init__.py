"""`fashion-mnist`: each command is a few lines over its room."""

import codecs
import os
import signal
import sys
from io import TextIOWrapper

import typer
from rich.console import Console
from rich.markup import escape

from cli import extras
from cli.archive import archive
from cli.bench import bench
from cli.compare import compare
from cli.describe import describe
from cli.errors import errors
from cli.evaluate import evaluate
from cli.explain import explain
from cli.export import export
from cli.import_model import import_model
from cli.keys import keys
from cli.loadtest import loadtest
from cli.models import models
from cli.predict import predict
from cli.report import report
from cli.robustness import robustness
from cli.serve import serve, status
from cli.settings import settings
from cli.train import train
from cli.unknown import unknown
from fashion_mnist import __version__
from fashion_mnist.errors import FashionMNISTError, UsageError
from fashion_mnist.settings import CONFIG
from fashion_mnist.settings_file import NAME
from fashion_mnist.system.line_sink import open_standard_files

COMMANDS = (
    describe,
    train,
    evaluate,
    errors,
    report,
    compare,
    robustness,
    unknown,
    export,
    archive,
    serve,
    status,
    predict,
    explain,
    loadtest,
    bench,
    settings,
)

app = typer.Typer(
    help="Train, export and serve the Fashion-MNIST CNN.",
    epilog="Start with: fashion-mnist serve",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
for command in COMMANDS:
    app.command()(command)
app.command("import")(import_model)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"fashion-mnist {__version__}")
        raise typer.Exit


def _name_config(path: str | None) -> None:
    if path is not None:
        # Read with the other settings, here and in the processes that are started.
        os.environ[CONFIG] = os.path.abspath(path)


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the whole traceback of an error."),
    config: str | None = typer.Option(
        None, "--config", metavar="FILE", help=f"Settings file; by default ./{NAME}.", callback=_name_config
    ),
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True, callback=_print_version),
) -> None:
    """`main` reads `--debug`, because it must know it even if an option cannot be parsed."""


def main() -> None:
    """The console script. Known errors are printed as one line on stderr; the exit status is their kind."""
    open_standard_files()
    _print_any_name()
    # Exit as after Ctrl-C, which ends started processes. `serve` installs its own handlers while it serves.
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signal_number) != signal.SIG_IGN:
            signal.signal(signal_number, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except FashionMNISTError as error:
        if "--debug" in sys.argv:
            raise
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {escape(error.message)}", highlight=False)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except ModuleNotFoundError as error:
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        advice = extras.advice(error, command)
        if advice is None or "--debug" in sys.argv:
            raise
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {escape(advice)}", highlight=False)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of the output has closed it. Write nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        where = f"{error.filename}: " if error.filename else ""
        Console(stderr=True, soft_wrap=True).print(
            f"[red]error:[/] {escape(where)}{error.strerror or error}", highlight=False
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_any_name() -> None:
    """Let stdout and stderr accept any text: file names are bytes, not necessarily in the terminal's encoding."""
    codecs.register_error("any_name", _encode_any)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="any_name")


def _encode_any(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write undecodable bytes of names unchanged, and other characters that cannot be encoded as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
