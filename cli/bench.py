"""`fashion-mnist bench`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class What(StrEnum):
    """What is measured."""

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
            help="comparison: beside TorchServe and FastAPI. "
            "decoding: what each kind of image costs, and what photographs cost others. "
            "peers: beside seven other model servers. "
            "ratios: whether it is still as many times faster as it must be. "
            "open-loop: MLPerf's scenarios by MLCommons' LoadGen. "
            "page: how fast the page follows, in Chromium. "
            "explaining: what explanations cost predictions."
        ),
    ] = What.comparison,
    output: Annotated[Path, typer.Option(help="Folder for results as JSON and Markdown.")] = Path("benchmarks/results"),
    device: Annotated[
        str, typer.Option(help="Of comparison and open-loop: where this service computes, cpu or cuda.")
    ] = "cpu",
    peer: Annotated[
        list[str] | None, typer.Option(help="Of peers: only this one, by its name in the table. Repeatable.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Of open-loop: only this one, embedded or torchserve.")
    ] = None,
    soak: Annotated[int, typer.Option(help="Of open-loop: seconds at half of the highest rate.", min=0)] = 0,
    rate: Annotated[
        float, typer.Option(help="Of open-loop: queries a second of the soak, and nothing but the soak.", min=0)
    ] = 0,
    kind: Annotated[
        str,
        typer.Option(help="Of open-loop: what is sent, binary, grpc, json or another kind that can hold many images."),
    ] = "binary",
    quick: Annotated[
        bool, typer.Option("--quick", help="A short run that shows that it works, not what is true.")
    ] = False,
) -> None:
    """Measure this service beside others, interleaved on this machine, every label checked.

    Needs `wrk`, for the peers nginx (apt-get install wrk nginx-light), and an otherwise idle machine: a quarter of an
    hour for the comparison and for the peers, some minutes for the rest.
    Servers of others get environments of their own in .venv-benchmarks, fetched once.

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
