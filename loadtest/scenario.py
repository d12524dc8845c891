"""A scenario: what is sent, by how many clients over time, and what must hold. Read from a short YAML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from fashion_mnist.errors import UsageError
from loadtest.kinds import Kind, find_kind

FOLDER: Final = Path(__file__).parent / "scenarios"

THRESHOLDS: Final = {
    "p50_ms": "most",
    "p95_ms": "most",
    "p99_ms": "most",
    "failures_percent": "most",
    "goodput_per_s": "least",
    "wrong_labels": "most",
}
"""What can be asked of a stage, and whether a threshold is the most or the least that is right."""


@dataclass(frozen=True)
class Stage:
    """So many clients, reached within `ramp_s` and kept for `hold_s`; only the latter is judged, wrong labels apart.

    `thresholds` are by name; those of THRESHOLDS that it lacks are not asked for.
    """

    clients: int
    ramp_s: float
    hold_s: float
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class Scenario:
    """A whole run. See the module, and `scenarios/` for examples."""

    name: str
    about: str
    mix: tuple[tuple[Kind, float], ...]
    """What is sent, each with its share in parts."""
    think_s: tuple[float, float]
    """A client waits so long between an answer and its next request, at random between the two."""
    stages: tuple[Stage, ...]
    until_saturation: bool
    """Whether the run ends with the first stage that fails, and is good if one before it held."""

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return sum(stage.ramp_s + stage.hold_s for stage in self.stages)

    def scaled(self, *, clients: int | None = None, seconds: float | None = None) -> "Scenario":
        """The same with at most so many clients, in all of `seconds`; the shape stays."""
        most = max(stage.clients for stage in self.stages)
        by_clients = clients / most if clients else 1.0
        by_seconds = seconds / self.seconds if seconds else 1.0
        stages = tuple(
            Stage(
                max(1, round(stage.clients * by_clients)),
                stage.ramp_s * by_seconds,
                stage.hold_s * by_seconds,
                stage.thresholds,
            )
            for stage in self.stages
        )
        return Scenario(self.name, self.about, self.mix, self.think_s, stages, self.until_saturation)


def names() -> list[str]:
    """The scenarios that are at hand by name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> Scenario:
    """The scenario of this name, or in this file. Raises UsageError, which says what is wrong with it."""
    path = FOLDER / f"{name}.yaml" if name in names() else Path(name)
    try:
        said = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(
            f"no scenario {name}: give one of {', '.join(names())}, or a file ({error.strerror})"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from None
    try:
        return _scenario(path.stem, said)
    except _Wrong as wrong:
        raise UsageError(f"{path}: {wrong}") from None


class _Wrong(Exception):
    """What is wrong in a file."""


def _scenario(name: str, said: Any) -> Scenario:
    said = _mapping(said, "a scenario", {"about", "mix", "think_s", "stages", "thresholds", "until_saturation"})
    mix = tuple(
        (_kind(kind), _number(parts, f"mix: {kind}", above=0))
        for kind, parts in _mapping(said.get("mix"), "mix").items()
    )
    think = said.get("think_s", 0)
    low, high = think if isinstance(think, list) and len(think) == 2 else (think, think)
    think_s = (_number(low, "think_s"), _number(high, "think_s"))
    if think_s[0] > think_s[1]:
        raise _Wrong(f"think_s: {low} to {high} goes backwards")
    thresholds = _thresholds(said.get("thresholds", {}))
    stages = said.get("stages")
    if not isinstance(stages, list) or not stages or not mix:
        raise _Wrong("it needs a mix and stages")
    until_saturation = said.get("until_saturation", False)
    if not isinstance(until_saturation, bool):
        raise _Wrong("until_saturation: true or false")
    return Scenario(
        name=name,
        about=str(said.get("about", "")),
        mix=mix,
        think_s=think_s,
        stages=tuple(_stage(stage, thresholds) for stage in stages),
        until_saturation=until_saturation,
    )


def _stage(said: Any, thresholds: Mapping[str, float]) -> Stage:
    said = _mapping(said, "a stage", {"clients", "ramp_s", "hold_s", "thresholds"})
    clients = said.get("clients")
    if not isinstance(clients, int) or isinstance(clients, bool) or clients < 1:
        raise _Wrong(f"a stage needs clients, a whole number from 1 on, not {clients!r}")
    own = _thresholds(said["thresholds"]) if "thresholds" in said else {}
    return Stage(
        clients,
        _number(said.get("ramp_s", 0), "ramp_s"),
        _number(said.get("hold_s"), "hold_s", above=0),
        {**thresholds, **own},
    )


def _thresholds(said: Any) -> dict[str, float]:
    return {
        name: _number(value, f"thresholds: {name}")
        for name, value in _mapping(said, "thresholds", set(THRESHOLDS)).items()
    }


def _kind(name: Any) -> Kind:
    try:
        return find_kind(str(name))
    except UsageError as error:
        raise _Wrong(f"mix: {error.message}") from None


def _mapping(said: Any, what: str, known: "set[str] | None" = None) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise _Wrong(f"{what} is a mapping, not {said!r}")
    if known is not None and (unknown := [str(name) for name in said if name not in known]):
        raise _Wrong(f"{what} knows no {unknown[0]!r}: there are {', '.join(sorted(known))}")
    return said


def _number(said: Any, what: str, above: float = -1) -> float:
    if (
        isinstance(said, bool)
        or not isinstance(said, int | float)
        or not math.isfinite(said)
        or said < 0
        or said <= above
    ):
        raise _Wrong(
            f"{what}: a number {'above' if above >= 0 else 'from'} 0 {'' if above >= 0 else 'on'}, not {said!r}"
        )
    return float(said)
