"""What a dashboard is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "heatmap", "stat"]


@dataclass(frozen=True)
class Panel:
    """One panel. `queries` are pairs of PromQL and legend; `SERVER` in them is the choice of servers."""

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: Kind = "timeseries"
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: rows of panels, by the rows' titles."""

    name: str
    title: str
    description: str
    rows: dict[str, list[Panel]]
