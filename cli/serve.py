"""`fashion-mnist serve` and `fashion-mnist status`."""

import contextlib
import json
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from cli import extras
from fashion_mnist.errors import Unavailable
from fashion_mnist.model_store import model_store_path, model_task
from fashion_mnist.settings import Settings
from fashion_mnist.system.line_sink import LineSink
from serving import processes, readiness, state


def serve(
    host: Annotated[str | None, typer.Option(help="Address for clients.")] = None,
    port: Annotated[int | None, typer.Option(help="Port for clients; 0 for any free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port; by default --port + 5.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Port of metrics and models; by default --port + 6.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="torchserve, embedded (without Java and torch) or oip (another server).")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="Inference runtime: onnx or torchscript.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes of TorchServe.")] = None,
    gateways: Annotated[int | None, typer.Option(help="Number of gateway processes.")] = None,
) -> None:
    """Serve the released model in the foreground until Ctrl-C or SIGTERM, with a gateway in front of TorchServe.

    When the first health check has succeeded, a line says so, followed by a curl command to try. `fashion-mnist
    settings` lists all settings.

    Examples:

    `fashion-mnist serve`

    `fashion-mnist serve --engine embedded --port 9000`
    """
    # Imported here, because no other command needs the whole gateway.
    from gateway.process import supervisor

    settings = Settings.from_environment(
        host=host,
        port=port,
        grpc_port=grpc_port,
        admin_port=admin_port,
        engine=engine,
        runtime=runtime,
        device=device,
        workers=workers,
        gateways=gateways,
    )
    if settings.engine == "torchserve":
        extras.require("ts", "model_archiver", "torch")
    if settings.engine != "oip":
        extras.require("onnxruntime" if settings.runtime == "onnx" else "torch")
    store = model_store_path(settings)
    sink = LineSink(1)

    def on_ready(url: str, took_s: float) -> None:
        check = model_task(store).health_check
        sample = _shortest(store / check.image)
        sink.print(f"ready: {url} takes {Path(sample).name} for {check.label!r} ({took_s:.1f} s after the start)")
        sink.print(f"  curl -T {sample} {url}")

    def build_archive(model_store: Path, path: Path) -> None:
        from export import archive

        archive.build(settings, model_store, path)

    try:
        supervisor.serve(
            settings, store, build_archive, on_ready, tell=lambda message: sink.print(f"fashion-mnist: {message}")
        )
    finally:
        sink.close()


def status(
    port: Annotated[int | None, typer.Option(help="Port that the server was started on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print whether the server is ready, by a real prediction, and its processes' memory. Exit status 0 if ready.

    Example: `fashion-mnist status --port 9000`
    """
    settings = Settings.from_environment(port=port)
    running = state.read(settings.port, settings.host)
    if running is None:
        raise Unavailable(f"no server of yours runs on port {settings.port}: start one with `make serve`")
    ready, reason = True, ""
    try:
        for private_socket in running.private_sockets:
            readiness.ask_at(Path(private_socket))
    except readiness.NotReady as error:
        ready, reason = False, str(error)
    rows = []
    for process in processes.tree(running.pid):
        # Skip processes that have just ended.
        with contextlib.suppress(psutil.NoSuchProcess):
            memory_mb = round(process.memory_info().rss / 2**20)
            rows.append({"pid": process.pid, "process": process.name(), "memory_mb": memory_mb})
    url = readiness.url(running.host, running.port, name=model_task(model_store_path(settings)).name, tls=running.tls)
    if as_json:
        print(json.dumps({"ready": ready, "reason": reason, "url": url, "processes": rows}, indent=2))
    else:
        table = Table("pid", "process", "memory, MiB", title="ready" if ready else f"not ready: {reason}")
        for row in rows:
            table.add_row(*map(str, row.values()))
        Console().print(url, table)
    if not ready:
        raise typer.Exit(1)


def _shortest(path: Path) -> str:
    """The path relative to the current folder if it is below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
