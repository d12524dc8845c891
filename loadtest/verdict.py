"""Whether a run's thresholds held: as numbers, as JSON, and as JUnit XML for CI."""

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashion_mnist.system.atomic import write_bytes
from loadtest.recorder import Period, quantile
from loadtest.scenario import THRESHOLDS, Scenario, Stage


@dataclass(frozen=True)
class Check:
    """A threshold and what was found of it."""

    name: str
    asked: float
    found: float

    @property
    def held(self) -> bool:
        """Whether the found is right; what could not be measured is not."""
        return self.found <= self.asked if THRESHOLDS[self.name] == "most" else self.found >= self.asked

    def __str__(self) -> str:
        sign = "<=" if THRESHOLDS[self.name] == "most" else ">="
        return f"{self.name} {sign} {self.asked:g}: {self.found:,.4g}, {'held' if self.held else 'MISSED'}"


@dataclass(frozen=True)
class Judged:
    """A stage that was held, in figures."""

    stage: Stage
    seconds: float
    figures: dict[str, float]
    checks: tuple[Check, ...]

    @property
    def held(self) -> bool:
        """Whether all its thresholds were."""
        return all(check.held for check in self.checks)

    def missed(self, name: str) -> bool:
        """Whether this threshold was."""
        return any(check.name == name and not check.held for check in self.checks)


@dataclass(frozen=True)
class Verdict:
    """What is said of a run."""

    scenario: Scenario
    stages: tuple[Judged, ...]
    wrong_labels: dict[str, int]
    failures: dict[str, int]
    error: str | None = None
    """Why it could not be run to its end."""

    @property
    def passed(self) -> bool:
        """Whether the run was good: there were answers, and the stages held that had to."""
        if self.error is not None or not any(judged.figures["answered"] for judged in self.stages):
            return False
        if self.scenario.until_saturation:
            # What is too much may be slow or refused: wrong it may not be.
            return self.stages[0].held and not any(judged.missed("wrong_labels") for judged in self.stages)
        return len(self.stages) == len(self.scenario.stages) and all(judged.held for judged in self.stages)

    @property
    def most_clients(self) -> int:
        """Of the largest stage that held; 0 where none did."""
        return max((judged.stage.clients for judged in self.stages if judged.held), default=0)


def judge(scenario: Scenario, periods: Sequence[Period], error: str | None = None) -> Verdict:
    """Compare what was seen with what was asked for. A stage answers for its ramp's wrong labels too."""
    held: list[Period] = []
    wrong = [0]
    for period in periods:
        wrong[-1] += period.seen.wrong_labels.total()
        if period.held and period.seconds:
            held.append(period)
            wrong.append(0)
    if held:
        wrong[len(held) - 1] += wrong[len(held)]  # of a ramp that the run ended in
    return Verdict(
        scenario,
        tuple(_judge(period, count) for period, count in zip(held, wrong, strict=False)),
        _merged([period.seen.wrong_labels for period in periods]),
        _merged([period.seen.failures for period in periods]),
        error,
    )


def _judge(period: Period, wrong_labels: int) -> Judged:
    seen, distribution = period.seen, period.seen.distribution()
    figures = {
        "requests": float(seen.requests),
        "answered": float(seen.answered),
        "goodput_per_s": seen.answered / period.seconds,
        "images_per_s": seen.images / period.seconds,
        "p50_ms": quantile(distribution, 0.5),
        "p95_ms": quantile(distribution, 0.95),
        "p99_ms": quantile(distribution, 0.99),
        "wrong_labels": float(wrong_labels),
        "failures_percent": 100 * (1 - seen.answered / seen.requests) if seen.requests else math.nan,
    }
    checks = tuple(Check(name, asked, figures[name]) for name, asked in period.stage.thresholds.items())
    return Judged(period.stage, period.seconds, figures, checks)


def _merged(counters: Sequence[Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counter in counters:
        for message, count in counter.items():
            total[message] = total.get(message, 0) + count
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def write_json(verdict: Verdict, path: Path) -> None:
    """The verdict with all its figures; what could not be measured is null."""
    document = {
        "scenario": verdict.scenario.name,
        "passed": verdict.passed,
        "error": verdict.error,
        "most_clients_that_held": verdict.most_clients,
        "stages": [
            {
                "clients": judged.stage.clients,
                "seconds": round(judged.seconds, 2),
                "held": judged.held,
                "figures": {name: _number(value) for name, value in judged.figures.items()},
                "checks": [
                    {**asdict(check), "found": _number(check.found), "held": check.held} for check in judged.checks
                ],
            }
            for judged in verdict.stages
        ],
        "wrong_labels": verdict.wrong_labels,
        "failures": verdict.failures,
    }
    write_bytes(path, (json.dumps(document, indent=2) + "\n").encode())


def write_junit(verdict: Verdict, path: Path) -> None:
    """A test case for each threshold of each stage, and one for the run."""
    suite = ET.Element("testsuite", name=f"loadtest {verdict.scenario.name}")
    failed = 0
    for place, judged in enumerate(verdict.stages, 1):
        for check in judged.checks:
            name = f"stage {place}, {judged.stage.clients} clients: {check.name}"
            case = ET.SubElement(suite, "testcase", classname=f"loadtest.{verdict.scenario.name}", name=name)
            case.set("time", f"{judged.seconds:.2f}")
            # Past the saturation that is looked for, missing a threshold is what was expected.
            if not check.held and not (verdict.scenario.until_saturation and verdict.passed):
                ET.SubElement(case, "failure", message=str(check))
                failed += 1
    case = ET.SubElement(suite, "testcase", classname=f"loadtest.{verdict.scenario.name}", name="the run")
    if not verdict.passed:
        ET.SubElement(case, "failure", message=verdict.error or "the run did not pass: see result.json")
        failed += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failed))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    write_bytes(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
