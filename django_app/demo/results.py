"""What came out of a finished analysis, ready to be shown: totals, a row per package, the extremes, the comparison."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, Sum

from demo import analyses
from demo.models import Analysis
from demo.treemap import Tile, treemap

TOP = 10


@dataclass(frozen=True, slots=True)
class PackageRow:
    """The sums of one package; `paths` are the ways through its functions."""

    name: str
    documents: int
    lines: int
    functions: int
    classes: int
    paths: int
    errors: int

    @property
    def paths_per_function(self) -> float:
        """Return the mean number of ways through a function."""
        return self.paths / self.functions if self.functions else 0.0


@dataclass(frozen=True, slots=True)
class Extreme:
    """A function that stands out, and where it is."""

    function: str
    document: str
    value: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A parallel run beside its serial twin."""

    parallel_seconds: float
    serial_seconds: float
    documents: int
    differences: int

    @property
    def ratio(self) -> float:
        """Return how many times as long the serial run took."""
        return self.serial_seconds / self.parallel_seconds if self.parallel_seconds else 0.0

    @property
    def longest(self) -> float:
        """Return the longer of the two times, to draw both to one scale."""
        return max(self.parallel_seconds, self.serial_seconds)


def package_rows(analysis: Analysis) -> list[PackageRow]:
    """Return the sums of each package, the one with most lines first."""
    rows = analysis.findings.values("document__package").annotate(
        documents=Count("pk"),
        all_lines=Sum("lines"),
        all_functions=Sum("functions"),
        all_classes=Sum("classes"),
        all_paths=Sum("paths"),
        errors=Count("pk", filter=~Q(error="")),
    )
    found = [
        PackageRow(
            row["document__package"],
            row["documents"],
            row["all_lines"],
            row["all_functions"],
            row["all_classes"],
            row["all_paths"],
            row["errors"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda row: (-row.lines, row.name))


def totals(rows: list[PackageRow]) -> PackageRow:
    """Return the sums of all packages."""
    return PackageRow(
        "all packages",
        sum(row.documents for row in rows),
        sum(row.lines for row in rows),
        sum(row.functions for row in rows),
        sum(row.classes for row in rows),
        sum(row.paths for row in rows),
        sum(row.errors for row in rows),
    )


def extremes(analysis: Analysis, value: str, name: str) -> list[Extreme]:
    """Return the functions with the greatest `value` field, one of each document at most."""
    found = analysis.findings.exclude(**{name: ""}).order_by(f"-{value}", "document__path")
    return [Extreme(*row) for row in found.values_list(name, "document__path", value)[:TOP]]


def imported(analysis: Analysis) -> list[tuple[str, int, float]]:
    """Return the modules that most documents import, how many do, and that as a share of the first one's."""
    counts: Counter[str] = Counter()
    for names in analysis.findings.values_list("imports", flat=True):
        counts.update(names)
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: 2 * TOP]
    return [(name, count, count / first[0][1]) for name, count in first]


def comparison(analysis: Analysis) -> Comparison | None:
    """Return how the analysis compares with its serial run, or None when there is no finished one."""
    serial = Analysis.objects.filter(serial_of=analysis).first()
    if serial is None or serial.seconds is None or analysis.seconds is None:
        return None
    different = analyses.differences(analysis, serial)
    return Comparison(analysis.seconds, serial.seconds, analysis.document_count, different)


def result(analysis: Analysis) -> dict[str, Any]:
    """Return everything that the template of a result needs."""
    rows = package_rows(analysis)
    tiles = [Tile(row.name, row.lines, row.paths_per_function, row.functions) for row in rows if row.lines]
    return {
        "analysis": analysis,
        "rows": rows,
        "totals": totals(rows),
        "longest": extremes(analysis, "longest_lines", "longest_name"),
        "knottiest": extremes(analysis, "knottiest_paths", "knottiest_name"),
        "imports": imported(analysis),
        "unread": analysis.findings.exclude(error="").select_related("document").order_by("document__path"),
        "treemap": treemap(tiles),
        "comparison": comparison(analysis),
    }
