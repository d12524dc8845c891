"""What clients meet."""

from typing import Final

from deploy.monitoring.dashboards.panels import Dashboard, Panel
from deploy.monitoring.dashboards.promql import (
    FAILED,
    FAILURES_PROMISED,
    IN_TIME,
    LATE_PROMISED,
    OK,
    PREDICTIONS,
    REFUSED,
    REQUESTS,
    SECONDS,
    STAGE_SECONDS,
    buckets,
    by,
    mean,
    quantile,
    rate,
    rates_by,
    selected,
)

STAGES: Final = {
    "parse": "its bytes came, and its head was read",
    "decode": "images were made of its bytes",
    "queue": "it waited for the engine",
    "engine": "the engine had it",
    "encode": "the answer was written",
}
"""What happened to a request in each stage."""

SERVICE: Final = Dashboard(
    "service",
    "Fashion-MNIST: service",
    "What clients meet: how much they ask, what fails, how long it takes.",
    {
        "Now": [
            Panel(
                "Gateways ready",
                "Gateways whose engine gives a known image its label.",
                "none",
                [(f"sum({selected('serving_ready')})", "")],
                "stat",
                width=4,
            ),
            Panel("Requests", "All that came, whatever became of them.", "reqps", [(rate(REQUESTS), "")], "stat", 4),
            Panel(
                "Failures",
                "Of all requests those that failed for a reason of the server's; 0.1 % are promised.",
                "percentunit",
                [(f"{rate(REQUESTS, FAILED)} / {rate(REQUESTS)}", "")],
                "stat",
                width=4,
            ),
            Panel(
                "Slowest of a hundred",
                "The 99th percentile of a request's time, from its first byte to the answer.",
                "s",
                [quantile(0.99, SECONDS)],
                "stat",
                width=4,
            ),
            Panel(
                "Within 0.1 s",
                "Of the predictions those that took 0.1 s at most; 99 % are promised.",
                "percentunit",
                [(f"{rate(f'{SECONDS}_bucket', IN_TIME)} / {rate(f'{SECONDS}_count')}", "")],
                "stat",
                width=4,
            ),
            Panel(
                "Alerts",
                "Alerts that fire; deploy/RUNBOOK.md says what to do.",
                "none",
                [('count(ALERTS{alertstate="firing"}) or vector(0)', "")],
                "stat",
                width=4,
            ),
        ],
        "Traffic": [
            Panel(
                "Answered requests",
                "Requests that were answered with a prediction.",
                "reqps",
                [rates_by("instance", REQUESTS, OK)],
            ),
            Panel(
                "Images",
                "Images that the model was asked for.",
                "ops",
                [rates_by("instance", PREDICTIONS)],
            ),
            Panel(
                "Connections",
                "Open connections of clients.",
                "none",
                [by("instance", "serving_connections")],
            ),
        ],
        "Errors": [
            Panel(
                "The sender's errors",
                "Requests refused for what they were, by the error's code: docs/reference/errors.md.",
                "reqps",
                [(f"{rate(REQUESTS, REFUSED, by='code')} > 0", "{{code}}")],
            ),
            Panel(
                "The server's errors",
                "Requests that failed for a reason of the server's: too many at once, no engine, or a fault.",
                "reqps",
                [rates_by("code", REQUESTS, FAILED)],
            ),
            Panel(
                "Budget of errors",
                "How many times as fast as promised the budget of errors is used up; 1 uses it up in 30 days.",
                "none",
                [
                    (f"job:serving_failures:ratio_rate{window} / {FAILURES_PROMISED}", f"failures, {window}")
                    for window in ("5m", "1h", "6h")
                ]
                + [(f"job:serving_slow:ratio_rate1h / {LATE_PROMISED}", "late answers, 1h")],
            ),
        ],
        "Latency": [
            Panel(
                "Requests",
                "A request's time, from its first byte to the answer, those that were predicted.",
                "s",
                [quantile(share, SECONDS) for share in (0.5, 0.95, 0.99)],
            ),
            Panel(
                "Where the time goes",
                "The mean of each stage.",
                "s",
                [(mean(STAGE_SECONDS, by="stage"), "{{stage}}")],
                stacked=True,
            ),
            Panel("Whole request", "How many requests took how long.", "s", [buckets(SECONDS)], "heatmap"),
            *[
                Panel(
                    f"Stage: {stage}",
                    f"How many requests took how long while {meaning}.",
                    "s",
                    [buckets(STAGE_SECONDS, f'stage="{stage}"')],
                    "heatmap",
                )
                for stage, meaning in STAGES.items()
            ],
        ],
    },
)
