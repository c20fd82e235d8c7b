"""`python -m benchmarks [ROW ...] [--runs N] [--jobs N] [--json FILE]`: measure and print medians with their spread."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.rows import ROWS
from benchmarks.world import machine, world


def main() -> None:
    """Measure the rows that were asked for, in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to measure: {', '.join(ROWS)} (all)")
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--jobs", type=int, help="how many jobs (a number of its own for each row)")
    parser.add_argument("--json", type=Path, help="write every single figure there")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    with world():
        facts = machine()
        print("; ".join(f"{name} {value}" for name, value in facts.items()))
        results = {}
        for name in options.rows or ROWS:
            measure, jobs = ROWS[name]
            runs = [measure(options.jobs or jobs) for _ in range(options.runs)]
            results[name] = runs
            for figure in runs[0]:
                values = [run[figure] for run in runs]
                spread = f"({min(values):.2f} to {max(values):.2f})"
                print(f"{name:8} {figure:24} {statistics.median(values):10.2f}   {spread}")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
