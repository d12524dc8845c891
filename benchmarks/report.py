"""A run's figures as tables, for the terminal and in Markdown."""

from typing import Any

from rich.table import Table

_NAMES = {"stock": "TorchServe as shipped", "one thread": "the same, OMP_NUM_THREADS=1", "ours": "this service"}
_SINGLE = ["server", "body", "connections", "requests/s", "lowest-highest", "p50, ms", "p99, ms"]
_AIMS = ["figure", "measured", "aim", "reached"]


def table(results: dict[str, Any]) -> list[Table]:
    """The figures as tables of the terminal."""
    tables = []
    for heading, rows in ((_SINGLE, _single(results)), (_AIMS, _aims(results))):
        made = Table(*heading)
        for row in rows:
            made.add_row(*row)
        tables.append(made)
    return tables


def markdown(results: dict[str, Any]) -> str:
    """The figures as docs/benchmarks.md shows them."""
    machine = results["machine"]
    packed = results["packed"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, load generator included; {results['date']}, "
        f"commit {results['commit']}; medians of "
        f"{results['repeats']} interleaved runs of {results['seconds']} s; {results['labels_checked']:,} labels "
        "checked at all servers before and after.",
        "",
        *_markdown(_SINGLE, _single(results)),
        "",
        f"Bodies of 1,024 images: {packed['octets']:,} images/s answered as octets, {packed['json']:,} as JSON; ONNX "
        f"Runtime alone, in one process on one thread: {packed['onnxruntime']:,}.",
        "",
        *_markdown(_AIMS, _aims(results)),
    ]
    return "\n".join(lines) + "\n"


def _single(results: dict[str, Any]) -> list[list[str]]:
    return [
        [
            _NAMES[row["server"]],
            {"png": "PNG", "raw": "raw bytes"}[row["body"]],
            str(row["connections"]),
            f"{row['per_second']:,}",
            f"{row['lowest']:,}-{row['highest']:,}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        ]
        for row in sorted(results["single"], key=lambda row: (row["connections"], list(_NAMES).index(row["server"])))
    ]


def _aims(results: dict[str, Any]) -> list[list[str]]:
    sign = {"x": ">=", "us": "<=", "%": "<="}
    return [
        [
            row["figure"],
            f"{row['value']} {row['unit']}",
            f"{sign[row['unit']]} {row['aim']} {row['unit']}",
            "yes" if row["reached"] else "no",
        ]
        for row in results["ratios"]
    ]


def _markdown(heading: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [heading, ["---"] * len(heading), *rows]]
