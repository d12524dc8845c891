"""The verdict for people: lines for a terminal, and a page with the distribution of latencies and the wrong labels."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import jinja2
from matplotlib.figure import Figure

from fashion_mnist.system.atomic import write_bytes
from loadtest.recorder import Period, quantile, upper_ms
from loadtest.verdict import Judged, Verdict

_SHARES: Final = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]


def as_text(verdict: Verdict) -> str:
    """A few lines."""
    lines = []
    for judged in verdict.stages:
        figures = judged.figures
        lines.append(
            f"{judged.stage.clients} clients for {judged.seconds:.0f} s: "
            f"{figures['goodput_per_s']:,.0f} right answers/s, {figures['failures_percent']:.2g} % failed, "
            + ", ".join(f"{name} {figures[f'{name}_ms']:.2f} ms" for name in ("p50", "p95", "p99"))
        )
        lines += [f"  {check}" for check in judged.checks]
    for what, messages in (("wrong labels", verdict.wrong_labels), ("failures", verdict.failures)):
        lines += [f"{what}: {count:,} x {message}" for message, count in list(messages.items())[:10]]
    if verdict.error is not None:
        lines.append(f"error: {verdict.error}")
    if verdict.scenario.until_saturation and verdict.stages:
        lines.append(f"the thresholds held up to {verdict.most_clients} clients")
    lines.append(f"{verdict.scenario.name}: {'passed' if verdict.passed else 'FAILED'}")
    return "\n".join(lines)


def write(verdict: Verdict, periods: Sequence[Period], path: Path) -> None:
    """The page, with everything in it."""
    held = [period for period in periods if period.held and period.seconds]
    page = _PAGE.render(
        verdict=verdict,
        plot=plot({f"{period.stage.clients} clients": period.seen.distribution() for period in held}),
        stages=[(judged, _kinds(period)) for judged, period in zip(verdict.stages, held, strict=True)],
        failing=_failing,
    )
    write_bytes(path, page.encode())


def _kinds(period: Period) -> list[tuple[str, int, float, float]]:
    seen = period.seen
    return [
        (
            kind,
            counts.total(),
            quantile(counts, 0.5),
            quantile(counts, 0.99),
        )
        for kind, counts in sorted(seen.latencies.items())
    ]


def _failing(judged: Judged) -> list[str]:
    return [str(check) for check in judged.checks if not check.held]


def plot(distributions: Mapping[str, Mapping[int, int]]) -> str:
    """Latency by the share of answers that came sooner, with room for the slowest; SVG, "" without a single answer."""
    distributions = {label: counts for label, counts in distributions.items() if counts}
    if not distributions:
        return ""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for label, counts in distributions.items():
        total, below = sum(counts.values()), 0
        shares, latencies = [], []
        for place in sorted(counts):
            below += counts[place]
            # As if one more answer had been slower than all: the last one is at 1 - 1 / (n + 1).
            shares.append(total + 1 if below > total else (total + 1) / (total + 1 - below))
            latencies.append(upper_ms(place))
        axes.plot(shares, latencies, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1 / (1 - share) for share in _SHARES], [f"{100 * share:g} %" for share in _SHARES])
    axes.set_xlabel("share of right answers that came sooner")
    axes.set_ylabel("latency, ms")
    axes.grid(alpha=0.3)
    axes.legend()
    return svg(figure)


def svg(figure: Figure) -> str:
    """A figure as an `svg` element, without the prolog of a file, the same from run to run but for its ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[2].join(["<svg", ""])


_PAGE: Final = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Load test: {{ verdict.scenario.name }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; text-align: right }
  th { border-bottom: 1px solid #888 } td:first-child, th:first-child { text-align: left }
  .bad { color: #b00 } svg { max-width: 100%; height: auto }
</style>
<h1>{{ verdict.scenario.name }}: {% if verdict.passed %}passed{% else %}<span class="bad">failed</span>{% endif %}</h1>
<p>{{ verdict.scenario.about }}</p>
{% if verdict.error is not none %}
<p class="bad">{{ verdict.error }}</p>
{% endif %}
{% if verdict.scenario.until_saturation %}
<p>The thresholds held up to {{ verdict.most_clients }} clients.</p>
{% endif %}
<table>
  <tr><th>clients</th><th>seconds</th><th>right answers/s</th><th>images/s</th><th>p50, ms</th><th>p95, ms</th>
    <th>p99, ms</th><th>failed, %</th><th>wrong labels</th><th></th></tr>
  {% for judged, kinds in stages %}
  <tr><td>{{ judged.stage.clients }}</td><td>{{ "%.0f" | format(judged.seconds) }}</td>
    <td>{{ "{:,.0f}".format(judged.figures.goodput_per_s) }}</td>
    <td>{{ "{:,.0f}".format(judged.figures.images_per_s) }}</td>
    <td>{{ "%.2f" | format(judged.figures.p50_ms) }}</td><td>{{ "%.2f" | format(judged.figures.p95_ms) }}</td>
    <td>{{ "%.2f" | format(judged.figures.p99_ms) }}</td>
    <td>{{ "%.2g" | format(judged.figures.failures_percent) }}</td>
    <td>{{ "%.0f" | format(judged.figures.wrong_labels) }}</td>
    <td class="bad">{{ failing(judged) | join("; ") }}</td></tr>
  {% endfor %}
</table>
<h2>Latencies</h2>
{% if plot %}
{{ plot | safe }}
{% else %}
<p>None: no request was answered rightly.</p>
{% endif %}
{% for judged, kinds in stages %}
<h3>{{ judged.stage.clients }} clients</h3>
<table>
  <tr><th>kind</th><th>right answers</th><th>p50, ms</th><th>p99, ms</th></tr>
  {% for kind, count, p50, p99 in kinds %}
  <tr><td>{{ kind }}</td><td>{{ "{:,}".format(count) }}</td><td>{{ "%.2f" | format(p50) }}</td>
    <td>{{ "%.2f" | format(p99) }}</td></tr>
  {% endfor %}
</table>
{% endfor %}
{% for title, messages in [("Wrong labels", verdict.wrong_labels), ("Failures", verdict.failures)] %}
<h2>{{ title }}</h2>
{% if messages %}
<table>
  <tr><th>what</th><th>requests</th></tr>
  {% for message, count in messages.items() %}
  <tr><td>{{ message }}</td><td>{{ "{:,}".format(count) }}</td></tr>
  {% endfor %}
</table>
{% else %}
<p>None.</p>
{% endif %}
{% endfor %}
</html>
""")
