"""One line of the table that a run of LoadGen makes."""

from dataclasses import dataclass, field


@dataclass
class Row:
    """One line of the table."""

    name: str
    figure: float
    unit: str
    p50_ms: float | None
    p99_ms: float | None
    stolen_share: float
    """Of the machine's time that its hypervisor gave to others: the most that a run of these suffered."""
    valid: bool
    reasons: list[str] = field(default_factory=list)
    generator_bound: bool = False
    aims: list[str] = field(default_factory=list)
    """What is aimed at, and whether it was reached."""

    def cells(self) -> list[str]:
        """As the table shows it."""
        verdict = "VALID" if self.valid and not self.reasons else f"INVALID: {'; '.join(self.reasons) or 'by LoadGen'}"
        figure = f"{self.figure:,.0f} {self.unit}" if self.figure >= 10 else f"{self.figure:.4g} {self.unit}"
        bound = f">= {figure} (generator-bound)" if self.generator_bound else figure
        latencies = ["" if ms is None else f"{ms:.2f}" for ms in (self.p50_ms, self.p99_ms)]
        return [self.name, bound, *latencies, f"{100 * self.stolen_share:.2f}", "; ".join([verdict, *self.aims])]

    def aim(self, what: str, reached: bool) -> None:
        """Say whether something was reached that makes the run neither valid nor invalid."""
        self.aims.append(f"{what}: {'reached' if reached else 'missed'}")
