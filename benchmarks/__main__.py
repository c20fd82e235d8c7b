"""`python -m benchmarks [ROW ...]`: measure, print medians with their spread, and keep every figure."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import NotMeasured
from benchmarks.machine import machine
from benchmarks.processes import Others
from benchmarks.report import RESULTS, Result, lines
from benchmarks.rivals import RIVALS, Rival
from benchmarks.rows import ROWS, Row, Sizes
from benchmarks.world import World, world


def main() -> int:
    """Measure the rows that were asked for; the exit code is 1 if one of them could not be."""
    options = _options()
    rows = {name: ROWS[name] for name in options.rows or ROWS}
    failed = []
    with world(_rivals(options.rivals)) as place:
        facts = machine(place.folder)
        print("; ".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
        for name, row in rows.items():
            result = Result(name, _sizes(row, options), facts)
            if not _measured(place, row, result, options.runs):
                failed.append(name)
            for line in lines(result):
                print(line, flush=True)
            if result.runs:
                result.keep(options.results)
    if failed:
        print(f"not measured: {', '.join(failed)}")
    return int(bool(failed))


def _measured(place: World, row: Row, result: Result, runs: int) -> bool:
    """Measure a row some times; tell whether that went well. A row that fails does not keep the others from it."""
    place.missing = result.missing
    for _ in range(runs):
        others, begun = Others(), time.monotonic()
        try:
            figures = row.measure(place, **result.sizes)
        except NotMeasured as error:
            result.missing["the row"] = str(error)
            return False
        except Exception:  # noqa: BLE001  # whatever it is, it is told
            traceback.print_exc()
            return False
        result.add(figures, time.monotonic() - begun, others.cores())
    return True


def _options() -> argparse.Namespace:
    about = "\n".join(f"  {name:10} {row.about}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"rows:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which to measure (all)")
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--jobs", type=int, help="how many jobs (a number of its own for each row)")
    parser.add_argument("--rivals", default="all", help='"all", "none", or some of their names, after commas')
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures are kept (benchmarks/results)")
    parser.add_argument("--smoke", action="store_true", help="as little of everything as shows that it works")
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if options.runs < 1 or (options.jobs is not None and options.jobs < 1):
        parser.error("--runs and --jobs must be at least 1")
    if options.jobs and (without := [name for name in options.rows or ROWS if "jobs" not in ROWS[name].sizes]):
        parser.error(f"--jobs: {', '.join(without)} is not measured by a number of jobs")
    known = [rival.name for rival in RIVALS]
    if unknown := [name for name in _names(options.rivals) if name not in known]:
        parser.error(f"no rival {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def _names(text: str) -> list[str]:
    if text in ("all", "none"):
        return [rival.name for rival in RIVALS] if text == "all" else []
    return [name.strip() for name in text.split(",")]


def _rivals(text: str) -> Sequence[Rival]:
    return [rival for rival in RIVALS if rival.name in _names(text)]


def _sizes(row: Row, options: argparse.Namespace) -> Sizes:
    sizes = row.smoke if options.smoke else row.sizes
    return {**sizes, "jobs": options.jobs} if options.jobs else sizes


if __name__ == "__main__":
    sys.exit(main())
