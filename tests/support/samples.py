"""What Prometheus reads of a server under test."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.command import ServeCommand

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(command: ServeCommand) -> Samples:
    text = httpx.get(f"http://127.0.0.1:{command.state().admin_port}/metrics", timeout=10).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
