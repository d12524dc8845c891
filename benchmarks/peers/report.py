"""A run's figures as a table in Markdown and as a plot."""

from typing import Any, Final

from matplotlib.figure import Figure

from benchmarks.peers.catalogue import DOCUMENTED, LIMIT, OURS, PHOTOGRAPHS, TUNED
from benchmarks.report import Rows, markdown_table
from loadtest.report import svg

AT: Final = 64
"""Connections at which servers are compared."""

_HEADING: Final = ["server", "setup", "sent", "requests/s", "lowest-highest", "p50, ms", "p99, ms"]
_COST: Final = ["CPU seconds per 1,000 images", "MiB"]
_COLORS: Final = {DOCUMENTED: "#b8c4d4", TUNED: "#4a78b0", LIMIT: "#999999"}
_OURS: Final = "#d2691e"


def markdown(results: dict[str, Any]) -> str:
    """The figures as docs/explanation/benchmarks.md shows them."""
    lines = [
        f"{results['machine']['name']}, load generator included; {results['date']}, "
        f"commit {results['commit']}; medians of {results['rounds']} interleaved rounds of {results['seconds']} s; "
        f"{results['labels_checked']:,} labels checked at each server before. "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + ".",
    ]
    for connections in sorted({row["connections"] for row in results["rows"]}, reverse=True):
        rows = [row for row in results["rows"] if row["connections"] == connections]
        what = f"{connections} connection{'s' if connections > 1 else ''}"
        lines += ["", f"By {what}:", "", *markdown_table([*_HEADING, *_COST], [_cells(row) for row in rows])]
    if ratios := _ratios(results):
        lines += ["", f"Times the requests of each, tuned, by {AT} connections:", ""]
        lines += markdown_table(["server", *OURS], ratios)
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any]) -> str:
    """Rates, and processor time for an image, of each server in its setups; SVG."""
    drawn = [row for row in results["rows"] if row["setup"] != PHOTOGRAPHS]
    rows = [row for row in drawn if row["connections"] == AT and "reason" not in row]
    names = list(dict.fromkeys(row["server"] for row in rows))
    figure = Figure(figsize=(11, 0.55 * len(names) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row in rows:
        beside = [other["setup"] for other in rows if other["server"] == row["server"]]
        height = 0.8 / len(beside)
        place = names.index(row["server"]) + (beside.index(row["setup"]) - (len(beside) - 1) / 2) * height
        ours = row["server"] in OURS
        style: dict[str, Any] = {"color": _OURS if ours else _COLORS[row["setup"]]}
        style |= {"height": height, "alpha": 0.5 if ours and row["setup"] == DOCUMENTED else 1.0}
        spread = [[row["per_second"] - row["lowest"]], [row["highest"] - row["per_second"]]]
        left.barh(place, row["per_second"], xerr=spread, error_kw={"elinewidth": 0.8}, **style)
        micros = 1000 * row["cpu_s_per_1000"]
        right.barh(place, micros, **style)
        for axes, end, text in ((left, row["highest"], f"{row['per_second']:,}"), (right, micros, f"{micros:,.0f}")):
            axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=7)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    for axes, label in ((left, f"images/s, {AT} connections"), (right, "processor time for an image, us")):
        axes.set_xscale("log")
        if rows:
            # Room for the figures behind the bars, and a bar for the least, however near to each other they are.
            least, most = axes.dataLim.minposx / 2, axes.dataLim.xmax
            axes.set_xlim(least, most * max(3, (most / least) ** 0.2))
        axes.set_xlabel(f"{label} (logarithmic)")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle("paler: as documented; darker: tuned", fontsize=9)
    return svg(figure)


def _cells(row: dict[str, Any]) -> list[str]:
    name = f"**{row['server']}**" if row["server"] in OURS else row["server"]
    if "reason" in row:
        reason = " ".join(row["reason"].split()).replace("|", "/")
        return [name, row["setup"], row["body"], f"did not run: {reason}", "", "", "", "", ""]
    return [
        name,
        row["setup"],
        row["body"],
        f"{row['per_second']:,}",
        f"{row['lowest']:,}-{row['highest']:,}",
        f"{row['p50_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
        f"{row['cpu_s_per_1000']:.3f}",
        f"{row['pss_mib']:,.0f}" if "pss_mib" in row else "",
    ]


def _ratios(results: dict[str, Any]) -> Rows:
    """How many times a tuned peer's rate is each of ours, in its faster setup."""
    rates = {
        (row["server"], row["setup"]): row["per_second"]
        for row in results["rows"]
        if row["connections"] == AT and "reason" not in row
    }
    ours = {name: rates.get((name, TUNED)) for name in OURS}
    if not any(ours.values()):
        return []
    return [
        [server, *(f"{rate / tuned:.2f}" if rate else "" for rate in ours.values())]
        for (server, setup), tuned in rates.items()
        if setup == TUNED and server not in OURS
    ]
