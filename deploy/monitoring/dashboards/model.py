"""What the model says."""

from typing import Final

from deploy.monitoring.dashboards.panels import Dashboard, Panel
from deploy.monitoring.dashboards.promql import (
    CONFIDENCE,
    PREDICTIONS,
    UNSURE,
    buckets,
    by,
    mean,
    rate,
    rates_by,
    selected,
)

MODEL: Final = Dashboard(
    "model",
    "Fashion-MNIST: model",
    "What the model says, how sure it is, whether images are like those of its training, which versions there are.",
    {
        "Answers": [
            Panel(
                "Class mix",
                "The share of images by their likeliest class.",
                "percentunit",
                [(f"{rate(PREDICTIONS, by='label')} / scalar({rate(PREDICTIONS)})", "{{label}}")],
                stacked=True,
            ),
            Panel(
                "Confidence",
                "How many images had which probability of their likeliest class.",
                "percentunit",
                [buckets(CONFIDENCE)],
                "heatmap",
            ),
            Panel(
                "Mean confidence",
                "The mean probability of the likeliest class, and the share of images below 0.5.",
                "percentunit",
                [
                    (mean(CONFIDENCE), "mean"),
                    (f"{rate(f'{CONFIDENCE}_bucket', UNSURE)} / {rate(f'{CONFIDENCE}_count')}", "below 0.5"),
                ],
            ),
        ],
        "Drift": [
            Panel(
                "Drift",
                "Population stability index of the last 1,000 images against those of the training, none before there "
                "are as many; above its threshold it is no chance.",
                "none",
                [
                    (f"max by (figure) ({selected('serving_drift_psi')})", "{{figure}}"),
                    (f"max by (figure) ({selected('serving_drift_threshold')})", "threshold of {{figure}}"),
                ],
                width=12,
            ),
            Panel(
                "Images watched",
                "Images of which drift is measured, of all gateways.",
                "none",
                [by("instance", "serving_drift_images")],
                width=12,
            ),
        ],
        "Versions": [
            Panel(
                "Requests",
                "Requests by the version that answered them.",
                "reqps",
                [rates_by("version", "serving_version_requests_total")],
            ),
            Panel(
                "Ready",
                "Servers on which a version is ready, and of which it is the default.",
                "none",
                [
                    (by("version", f"serving_version_{state}")[0], f"{legend}, {{{{version}}}}")
                    for state, legend in (("ready", "ready"), ("default", "default"))
                ],
            ),
            Panel(
                "Canaries",
                "The server's own images, each second, and what came of them.",
                "ops",
                [(rate("serving_version_health_checks_total", by="version, outcome"), "{{outcome}}, {{version}}")],
            ),
        ],
    },
)
