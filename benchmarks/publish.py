"""`python -m benchmarks.publish`: draw the pictures of the documentation, and write the table of all results.

Both are made of nothing but the figures in `benchmarks/results`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import RESULTS, Result, load, middles, short
from benchmarks.rows import ROWS, Row

DOCS = RESULTS.parent.parent / "docs"
OURS, THEIRS = "#1f6feb", "#b6bec8"
LOG_SCALE_FROM = 30.0
"""Times are drawn on a logarithmic scale where the longest is so many times the shortest."""
TITLE_CHARS = 100
HEAD = """# Results

One file per row, written by `make bench`: all figures of every run, the machine, the versions, and what could not be
measured. This table and the pictures are made of them by `make bench-pictures`. Each figure is the median of all runs,
with the smallest and the largest; a *ratio* says how many times as fast jobsup is, a *share* how much of the
undisturbed rate is left. What the rows measure is told in [the documentation](../../docs/performance.md).
"""


class Bar(NamedTuple):
    """One bar: whose, how long, how far its runs spread, and what is written on it."""

    who: str
    length: float
    least: float
    most: float
    words: str

    @property
    def ours(self) -> bool:
        """Whether it is jobsup's."""
        return self.who.startswith("jobsup")


def bars(row: Row, result: Result) -> list[Bar]:
    """Return the bars of a row's picture, the best first."""
    found = list(middles(result.runs))
    related = {
        each.who: f"jobsup: {short(each.median)} times" if each.figure == "ratio" else f"{100 * each.median:.0f} %"
        for each in found
        if each.figure in ("ratio", "share")
    }
    unit = "/s" if row.picture.endswith("per_s") else f" {row.picture.rpartition('_')[2]}"
    drawn = [
        Bar(
            each.who,
            each.median,
            each.least,
            each.most,
            ", ".join(filter(None, [f"{short(each.median)}{unit}", related.get(each.who)])),
        )
        for each in found
        if each.figure == row.picture
    ]
    return sorted(drawn, key=lambda bar: bar.length, reverse=row.more_is_better)


def draw(name: str, row: Row, result: Result, place: Path) -> None:
    """Draw the picture of a row, as SVG that is the same for the same figures."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    found = bars(row, result)
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 1.4 + 0.36 * len(found)), layout="constrained")
        axes = figure.subplots()
        lengths = [bar.length for bar in found]
        axes.barh(
            [bar.who for bar in found],
            lengths,
            xerr=[[bar.length - bar.least for bar in found], [bar.most - bar.length for bar in found]],
            color=[OURS if bar.ours else THEIRS for bar in found],
            error_kw={"ecolor": "#57606a", "lw": 1},
            log=not row.more_is_better and max(lengths) > LOG_SCALE_FROM * min(lengths),
        )
        for index, bar in enumerate(found):
            axes.annotate(bar.words, (bar.most, index), (6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.35)
        axes.spines[["top", "right"]].set_visible(False)
        title = textwrap.fill(row.about.replace("`", "").rstrip("."), TITLE_CHARS)
        figure.suptitle(f"{title}: {row.picture}", x=0.01, ha="left", fontsize=10)
        figure.supxlabel(_machine(result), x=0.01, ha="left", fontsize=8, color="#57606a")
        figure.savefig(place, format="svg", metadata={"Date": None})


def table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of the table of all results."""
    yield HEAD.rstrip()
    if results:
        yield from ("", "| row | of what | figure | median | smallest to largest |", "|---|---|---|---:|---|")
    for result in results:
        for each in middles(result.runs):
            row = f"[{result.row}]({result.row}.json)"
            spread = f"{short(each.least)} to {short(each.most)}"
            yield f"| {row} | {each.who} | {each.figure} | {short(each.median)} | {spread} |"
        for name, words in result.missing.items():
            yield f"| {result.row} | {name} | not measured | | {words} |"
    for facts in dict.fromkeys(_machine(result) for result in results):
        yield f"\n{facts}"


def _machine(result: Result) -> str:
    """Return the facts of the machine that a picture has room for."""
    facts = result.machine
    return f"{facts['processor']}, Python {facts['python']}, PostgreSQL {facts['postgresql']}"


def main() -> None:
    """Make everything anew that there are figures for."""
    results = {name: load(name) for name in ROWS if (RESULTS / f"{name}.json").exists()}
    for name, result in results.items():
        if ROWS[name].picture:
            place = DOCS / f"performance-{name}.svg"
            draw(name, ROWS[name], result, place)
            print(place)
    (RESULTS / "README.md").write_text("\n".join(table(list(results.values()))) + "\n")
    print(RESULTS / "README.md")


if __name__ == "__main__":
    main()
