"""`fashion-mnist bench`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class What(StrEnum):
    """The benchmarks."""

    comparison = "comparison"
    decoding = "decoding"
    peers = "peers"
    ratios = "ratios"
    open_loop = "open-loop"
    page = "page"
    explaining = "explaining"


def bench(
    what: Annotated[
        What,
        typer.Argument(
            help="comparison: compare with TorchServe and FastAPI. "
            "decoding: measure the cost of each image format, and the effect of photographs on other requests. "
            "peers: compare with seven other model servers. "
            "ratios: check that the required speed-ups still hold. "
            "open-loop: run MLPerf's scenarios with MLCommons' LoadGen. "
            "page: measure the web page's latency in Chromium. "
            "explaining: measure the effect of explanations on predictions."
        ),
    ] = What.comparison,
    output: Annotated[Path, typer.Option(help="Folder for results as JSON and Markdown.")] = Path("benchmarks/results"),
    device: Annotated[
        str, typer.Option(help="For comparison and open-loop: this service's device, cpu or cuda.")
    ] = "cpu",
    peer: Annotated[
        list[str] | None, typer.Option(help="For peers: only this server, by its name in the table. Repeatable.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="For open-loop: only this engine, embedded or torchserve.")
    ] = None,
    soak: Annotated[int, typer.Option(help="For open-loop: seconds of a soak test at half the peak rate.", min=0)] = 0,
    rate: Annotated[
        float, typer.Option(help="For open-loop: run only the soak test, at this many queries per second.", min=0)
    ] = 0,
    kind: Annotated[
        str,
        typer.Option(help="For open-loop: the kind of requests: binary, grpc, json or another one with many images."),
    ] = "binary",
    quick: Annotated[
        bool, typer.Option("--quick", help="A short run to check that it works; its figures are not valid.")
    ] = False,
) -> None:
    """Measure this service and other servers, interleaved on this machine, and check every label.

    This needs `wrk`, for peers also nginx (apt-get install wrk nginx-light), and an otherwise idle machine for a
    quarter of an hour (comparison and peers) or some minutes (the others). Other servers are installed once into
    environments in .venv-benchmarks.

    Examples:

    `fashion-mnist bench --quick`

    `fashion-mnist bench open-loop --engine torchserve --soak 3600 --rate 2000`

    `fashion-mnist bench open-loop --kind grpc --engine embedded`

    `fashion-mnist bench peers --peer BentoML --peer "this service, embedded engine"`
    """
    if what is What.comparison:
        from benchmarks.comparison import run

        run(output, device=device, quick=quick)
    elif what is What.decoding:
        from benchmarks import decoding

        decoding.run(output, quick=quick)
    elif what is What.peers:
        from benchmarks.peers import run as peers

        peers.run(output, quick=quick, only=peer or ())
    elif what is What.ratios:
        from benchmarks import ratios

        ratios.run()
    elif what is What.page:
        from benchmarks import page

        page.run(output, quick=quick)
    elif what is What.explaining:
        from benchmarks import explaining

        explaining.run(output, quick=quick)
    else:
        from benchmarks.open_loop import measure

        engines = engine or measure.ENGINES
        measure.run(output, device=device, quick=quick, soak_s=soak, rate=rate, engines=engines, kind=kind)
