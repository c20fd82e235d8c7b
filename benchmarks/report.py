"""What was measured, as it is printed and as it is kept: medians with their spread, and every single figure as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.world import Figures

RESULTS = Path(__file__).resolve().parent / "results"
DISTURBED_CORES = 0.15
"""Above how many busy cores of others the run of a row is told to be disturbed."""


@dataclass
class Result:
    """All runs of a row.

    Args:
        row: its name.
        sizes: how much was measured.
        machine: the facts of the machine and its software.
        missing: who could not be measured, and why.
        took_s: how long each run took, with all that belongs to it.
        others_cores: how many cores were busy with other work, in each run.
        runs: the figures of each run.
    """

    row: str
    sizes: Mapping[str, object]
    machine: Mapping[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    others_cores: list[float] = field(default_factory=list)
    runs: list[Figures] = field(default_factory=list)

    def add(self, figures: Figures, took_s: float, others_cores: float) -> None:
        """Take in the figures of a run."""
        self.runs.append(figures)
        self.took_s.append(round(took_s, 1))
        self.others_cores.append(round(others_cores, 2))

    def keep(self, folder: Path) -> None:
        """Write it down, in a file of the row's name."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.row}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


class Middle(NamedTuple):
    """One figure of all runs that have it."""

    who: str
    figure: str
    median: float
    least: float
    most: float


def load(row: str, folder: Path = RESULTS) -> Result:
    """Return what was kept of a row."""
    return Result(**json.loads((folder / f"{row}.json").read_text()))


def middles(runs: Sequence[Figures]) -> Iterator[Middle]:
    """Yield each figure, in the order in which they were measured."""
    for who, figure in dict.fromkeys(
        (who, figure) for run in runs for who, figures in run.items() for figure in figures
    ):
        values = [run[who][figure] for run in runs if figure in run.get(who, {})]
        yield Middle(who, figure, statistics.median(values), min(values), max(values))


def lines(result: Result) -> Iterator[str]:
    """Yield what is printed of a row."""
    for who, figure, median, least, most in middles(result.runs):
        spread = f"({short(least)} to {short(most)})" if len(result.runs) > 1 else ""
        yield f"{result.row:9} {who:45} {figure:16} {short(median):>12}  {spread}".rstrip()
    for name, words in result.missing.items():
        yield f"{result.row:9} {name}: not measured: {words}"
    if max(result.others_cores, default=0.0) > DISTURBED_CORES:
        cores = ", ".join(map(str, result.others_cores))
        yield f"{result.row:9} disturbed: other work kept {cores} cores busy meanwhile"


def short(value: float) -> str:
    """Return a number as short as it may be read."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
