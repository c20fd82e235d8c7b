"""What the benchmarks do with their figures, and that the table of rivals fits its modules."""

from __future__ import annotations

import ast
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import report
from benchmarks.contender import Drained, latencies
from benchmarks.errors import Failed
from benchmarks.jobs import MOMENT, WARM_UP, Note
from benchmarks.publish import bars, table
from benchmarks.rivals import JOBSUP, REDIS, RIVALS, Rival, environments
from benchmarks.rows import ROWS, Row
from benchmarks.world import World
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = {"processor": "2 x Z80", "python": "3.13.0", "postgresql": "15.1, fsync on"}

of_each = pytest.mark.parametrize("rival", [*RIVALS, JOBSUP], ids=lambda rival: rival.name)


def result(*runs: dict[str, dict[str, float]], **others: Any) -> report.Result:
    """Return the result of a row."""
    return report.Result("drain", {"jobs": 1}, MACHINE, runs=list(runs), others_cores=[0.0] * len(runs), **others)


@of_each
def test_a_rival_has_a_module_that_can_enqueue(rival: Rival) -> None:
    """And a bulk call if the table says so."""
    nodes = list(ast.walk(ast.parse((ROOT / "benchmarks" / "rivals" / f"{rival.adapter}.py").read_text())))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert "enqueue" in names
    assert "enqueue_many" in names or not rival.bulk


@of_each
def test_a_rival_is_pinned_and_has_two_workers_or_one_that_makes_them(rival: Rival) -> None:
    """Nobody gets another version than somebody else."""
    assert all(re.fullmatch(r"[\w-]+(\[\w+\])?==[\d.]+", each) for each in rival.requirements), rival.requirements
    assert rival is JOBSUP or rival.requirements
    assert len(rival.workers) in (1, 2)
    assert rival.noop > 0 < rival.orm


def test_rivals_differ_in_their_names() -> None:
    """By which they are asked for, after commas."""
    names = [rival.name for rival in (*RIVALS, JOBSUP)]
    assert len(set(names)) == len(names)
    assert not any("," in name for name in names)


def test_a_rival_on_redis_is_told_where_that_is() -> None:
    """Wherever in its settings the address stands."""
    for rival in RIVALS:
        assert rival.needs_redis == ("Redis" in rival.name)
        settings = str(rival.configured("redis://here"))
        assert REDIS not in settings
        assert ("redis://here" in settings) == rival.needs_redis


def test_who_cannot_be_measured_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others are measured all the same."""
    monkeypatch.setattr(environments, "PLACE", tmp_path)
    broken, fine = (next(each for each in RIVALS if each.name == name) for name in ("dj-queue", "pgqueuer"))
    with ExitStack() as stack:
        world = World(None, tmp_path, tmp_path, stack, [RIVALS[2], broken, fine])  # type: ignore[arg-type]
        world._known |= {"dj_queue": broken, "pgqueuer": fine}  # type: ignore[dict-item]
        monkeypatch.setattr("benchmarks.world.is_made", lambda rival: rival is not RIVALS[2])

        def measure(rival: Any) -> dict[str, float]:
            if rival is broken:
                raise Failed("it did nothing")
            return {"per_s": 5.0}

        assert world.beside(measure) == {"pgqueuer": {"per_s": 5.0}}
    assert world.missing == {
        RIVALS[2].name: "its environment is not there: make bench-rivals",
        "dj-queue": "it did nothing",
    }


def test_an_environment_of_other_versions_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was made tells of what."""
    monkeypatch.setattr(environments, "PLACE", tmp_path)
    rival = RIVALS[0]
    assert environments.is_made(JOBSUP)
    assert not environments.is_made(rival)
    (tmp_path / rival.adapter).mkdir()
    (tmp_path / rival.adapter / "made").write_text(environments._said(rival))
    assert environments.is_made(rival)
    (tmp_path / rival.adapter / "made").write_text(environments._said(RIVALS[2]))
    assert not environments.is_made(rival)


def test_a_rate_counts_from_the_first_start_to_the_last_end() -> None:
    """Also where only a part of the jobs is looked at."""
    drained = Drained([Note(number, 10.0 + number, 11.0 + number, 1) for number in range(10)])
    assert drained.rate == pytest.approx(1.0)
    assert drained.part(0.5) == pytest.approx(1.0)


def test_latencies_leave_out_the_warm_up() -> None:
    """And jobs of a load."""
    found = [Note(WARM_UP, 0.0, 9.0, 1), Note(3, 0.0, 8.0, 1), *(Note(MOMENT, 0.0, 0.001 * n, 1) for n in range(101))]
    assert latencies(found) == pytest.approx({"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "max_ms": 100.0})


def test_medians_are_printed_with_their_spread() -> None:
    """And who is missing, and what disturbed."""
    runs = [{"jobsup": {"per_s": rate}} for rate in (3.0, 1.0, 2.0)]
    disturbed = result(*runs, missing={"dj-queue": "it did nothing"})
    disturbed.others_cores = [0.0, 0.5, 0.0]
    printed = [" ".join(line.split()) for line in report.lines(disturbed)]
    assert printed == [
        "drain jobsup per_s 2 (1 to 3)",
        "drain dj-queue: not measured: it did nothing",
        "drain disturbed: other work kept 0.0, 0.5, 0.0 cores busy meanwhile",
    ]


def test_what_is_kept_can_be_loaded(tmp_path: Path) -> None:
    """Every figure of every run."""
    kept = result({"jobsup": {"per_s": 1.5}}, {"jobsup": {"per_s": 2.5}})
    kept.keep(tmp_path / "new")
    assert report.load("drain", tmp_path / "new") == kept


def test_a_picture_shows_the_best_first_with_its_ratio() -> None:
    """The ratio is that of the medians' row, and shares are per cent."""
    runs = [{"pgqueuer": {"per_s": 4000.0, "ratio": 3.0}, "jobsup": {"per_s": 12000.0}}]
    found = bars(ROWS["drain"], result(*runs))
    assert [(bar.who, bar.words, bar.ours) for bar in found] == [
        ("jobsup", "12,000/s", True),
        ("pgqueuer", "4,000/s, jobsup: 3 times", False),
    ]
    shares = bars(ROWS["held"], result({"undisturbed": {"per_s": 10.0}, "held": {"per_s": 8.0, "share": 0.8}}))
    assert [bar.words for bar in shares] == ["10/s", "8/s, 80 %"]
    slow = bars(ROWS["latency"], result({"jobsup": {"p99_ms": 4.0}, "huey": {"p99_ms": 2.0, "ratio": 0.5}}))
    assert [bar.words for bar in slow] == ["2 ms, jobsup: 0.5 times", "4 ms"]


def test_the_table_has_every_figure() -> None:
    """A row of it for each, and the machine."""
    text = "\n".join(table([result({"jobsup": {"per_s": 1234.5}}, missing={"huey": "no redis-server"})]))
    assert "| [drain](drain.json) | jobsup | per_s | 1,234 | 1,234 to 1,234 |" in text
    assert "| drain | huey | not measured | | no redis-server |" in text
    assert "2 x Z80, Python 3.13.0, PostgreSQL 15.1, fsync on" in text


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_says_what_it_measures(row: Row) -> None:
    """In a sentence, and its smoke run has the same sizes."""
    assert row.about.endswith(".")
    assert row.sizes.keys() == row.smoke.keys()
