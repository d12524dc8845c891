"""A run's figures as tables, for the terminal and in Markdown."""

from typing import Any

from rich.table import Table

_NAMES = {
    "stock": "TorchServe as shipped",
    "stock, one thread": "the same, OMP_NUM_THREADS=1",
    "FastAPI": "FastAPI, uvicorn, ONNX Runtime",
    "FastAPI, tuned": "the same, one thread, no access log",
    "TorchServe, tuned": "our TorchServe alone, batchSize 32",
    "TorchServe, batch 1": "our TorchServe alone, batchSize 1",
    "gateway + TorchServe": "**this service**",
    "gateway, embedded": "**this service, embedded engine**",
}
_KINDS = {"png": "PNG", "raw": "raw bytes"}
_SINGLE = ["server", "body", "connections", "requests/s", "lowest-highest", "p50, ms", "p99, ms"]
_PACKED = ["bodies of 1,024 images", "images/s"]
_CORES = ["bodies of 1,024 images, processes", "images/s", "images per second of processor time"]
_PHOTOGRAPHS = ["photographs of 12 megapixels", "a second of processor time"]
_AIMS = ["figure", "measured", "aim", "reached"]

Rows = list[list[str]]


def table(results: dict[str, Any]) -> list[Table]:
    """The figures as tables of the terminal."""
    tables = []
    for heading, rows in _tables(results):
        made = Table(*heading)
        for row in rows:
            made.add_row(*(cell.replace("**", "") for cell in row))
        tables.append(made)
    return tables


def markdown(results: dict[str, Any]) -> str:
    """The figures as docs/explanation/benchmarks.md shows them."""
    lines = [
        f"{results['machine']['name']}, load generator included; {results['date']}, "
        f"commit {results['commit']}; medians of {results['repeats']} interleaved runs of {results['seconds']} s; "
        f"{results['labels_checked']:,} labels checked at all servers before and after.",
    ]
    for heading, rows in _tables(results):
        lines += ["", *markdown_table(heading, rows)]
    memory = results["memory"]
    lines += [
        "",
        f"Memory over {memory['requests']:,} requests, before and after: "
        + ", ".join(f"{name} {before:,} and {after:,} MiB" for name, (before, after) in memory["mb"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _tables(results: dict[str, Any]) -> list[tuple[list[str], Rows]]:
    return [
        (_AIMS, _aims(results)),
        (_SINGLE, _single(results)),
        (_PACKED, [[name, f"{rate:,}"] for name, rate in results["packed"].items()]),
        (_PHOTOGRAPHS, [[_NAMES[name], f"{rate:g}"] for name, rate in results["photographs"].items()]),
        (
            _CORES,
            [[row["server"], f"{row['images_per_s']:,}", f"{row['images_per_cpu_s']:,}"] for row in results["cores"]],
        ),
    ]


def _single(results: dict[str, Any]) -> Rows:
    return [
        [
            _NAMES[row["server"]],
            _KINDS[row["body"]],
            str(row["connections"]),
            f"{row['per_second']:,}",
            f"{row['lowest']:,}-{row['highest']:,}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        ]
        for row in sorted(results["single"], key=lambda row: (row["connections"], list(_NAMES).index(row["server"])))
    ]


def _aims(results: dict[str, Any]) -> Rows:
    return [
        [
            row["figure"],
            f"{row['value']} {row['unit']}",
            f"{row['aim']} {row['unit']}",
            "yes" if row["reached"] else "no",
        ]
        for row in results["aims"]
    ]


def markdown_table(heading: list[str], rows: Rows) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(row)} |" for row in [heading, ["---"] * len(heading), *rows]]
