"""Rows that somebody has spoiled by hand: such a job ends with its reason, the others go on, and everybody lives.

The worker, the supervisor's source, `manage.py jobs` and whoever asks for a result look at each row; whatever stands in
it, they say what is wrong in words at most.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobsup.errors import RowUnreadable
from jobsup.models import FailedAttempt, Job, Schedule, Status
from jobsup.recorder import Entry, Recorder
from jobsup.runner import Runner
from jobsup.schedules.ticking import Ticking
from jobsup.store import Failure, Outcome
from jobsup.text import TRACEBACK_CHARS_MAX
from spawnpool.runfile import RunFile
from tests import databases
from tests.db.bench import Bench
from tests.db.rows import failure, failures_of, put, row, success
from tests.db.said import Said
from tests.db.test_source import Fed
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SMALL = (-32768, -1, 0, 1, 2, 30_000, 32_767, 32_768, "many", "", None)
TEXTS = ("", "\x1b[2J\r\n\u202e", "x" * 64, "x" * 255, "\\", "'; --", "💥", None, b"\xff\xfe", 7)
BIG = (-(2**63), -1, 0, 99, 2**63 - 1, "nobody", None)
MOMENTS = (
    "0001-01-01 00:00:00+00", "1000-01-01 00:00:00+00", "2000-01-01 00:00:00+00", "9999-12-31 23:59:59+00", "infinity",
    "-infinity", "soon", "", 0, 1e300, None,
)  # fmt: skip
JSONS = (
    "", "{", "null", "7", '"text"', "[]", "{}", "NaN", '{"args":7,"kwargs":7}', '{"args":[]}',
    '{"args":{},"kwargs":[]}',
    '{"args":[1,2,3],"kwargs":{"1":2}}', '{"args":[],"kwargs":{},"more":1}', '{"args":["\\u0000\\ud800"],"kwargs":{}}',
    "[" * 100_000, '{"timeout":"x"}', '{"timeout":-1}', '{"timeout":1e999}', '{"memory_limit":[]}',
    '{"memory_limit":-5}',
    '{"backoff":{"base":-1}}', '{"backoff":{"nonsense":1}}', '{"backoff":"os.abort"}', '{"backoff":[1]}',
    '{"retry_on":7}', '{"retry_on":"ab"}', '{"retry_on":[7]}', '{"discard_on":{"a":1}}', '{"unknown":1}', None,
    b"\xff",
)  # fmt: skip
FLAGS = (True, False, 7, "maybe", None)

SPOILED: dict[str, tuple[Any, ...]] = {
    "task": (*TEXTS, "os.abort", "tests.testapp.tasks", "tests.testapp.tasks.leave_trace", "."),
    "queue": TEXTS,
    "backend": TEXTS,
    "priority": SMALL,
    "status": (-1, 0, 1, 2, 3, 4, 5, 6, 99, 32_767, "ready", None),
    "arguments": JSONS,
    "run_after": MOMENTS,
    "max_attempts": SMALL,
    "options": JSONS,
    "attempt": SMALL,
    "uncounted": SMALL,
    "claimed_by": BIG,
    "worker": TEXTS,
    "enqueued_at": MOMENTS,
    "started_at": MOMENTS,
    "last_attempted_at": MOMENTS,
    "finished_at": MOMENTS,
    "cancel_asked_at": MOMENTS,
    "left_behind": TEXTS,
    "keep_s": BIG,
    "unique_key": TEXTS,
    "unique_running": FLAGS,
    "ready_at": MOMENTS,
    "ready_message": TEXTS,
    "awaited": FLAGS,
    "untold": FLAGS,
    "schedule": TEXTS,
    "tick_at": MOMENTS,
    "result": JSONS,
}


Spoil = dict[str, Any]


class World:
    """A supervisor's source, one of its workers, and jobs, each other one of which is a good one."""

    def __init__(self, alias: str, runfile: RunFile) -> None:
        databases.empty(alias)
        self.alias = alias
        self.fed = Fed(alias, runfile)
        self.source, self.store = self.fed.source, self.fed.store
        self.bench = Bench(alias)
        self.bench.run = self.fed.run
        self.bench.runner = Runner(1, self.bench, self.fed.run, 1)
        self.good: list[int] = []

    def put(self, number: int) -> list[int]:
        """Enqueue jobs to spoil, and as many good ones between them."""
        pks = put(self.store, 2 * number)
        self.good = pks[1::2]
        return pks[::2]

    def spoil(self, pk: int, values: Spoil) -> None:
        """Write into a row what somebody might, if the database takes it."""
        changes = ", ".join(f"{column} = %s" for column in values)
        try:
            with transaction.atomic(using=self.alias), connections[self.alias].cursor() as cursor:
                cursor.execute(f"UPDATE jobsup_job SET {changes} WHERE id = %s", [*values.values(), pk])
        except (DatabaseError, ValueError, OverflowError):
            pass

    def claim(self) -> list[int]:
        """Claim everything that can be."""
        pks: list[int] = []
        while more := self.source.claim(100).pks:
            pks += more
        return pks

    def play(self, pks: Sequence[int]) -> None:
        """Have the worker run what it has read."""
        runner = self.bench.runner
        for pk in pks:
            runner.describe(pk)
            runner.bounds(pk)
            runner.run(pk)
            runner.tidy()
            runner.flush()

    def look_after(self) -> None:
        """Do what a supervisor does, and account for what it still owns as if its worker had been killed."""
        self.source.cancelled()
        self.source.paused()
        self.source.backlog()
        self.source.is_empty()
        self.source.next_due_s()
        for pk in self.source.strays([]):
            self.fed.killed(pk)
        self.source.beat("running")

    def assert_all_is_well(self) -> None:
        """The good ones have run, nothing is owned, and what failed says why."""
        jobs = Job.objects.using(self.alias)
        assert set(jobs.filter(pk__in=self.good).values_list("status", flat=True)) <= {Status.SUCCESSFUL}
        assert not jobs.filter(status=Status.RUNNING, claimed_by=self.fed.run).exists()
        told = FailedAttempt.objects.using(self.alias).exclude(traceback="").values("job_id")
        ended_here = jobs.filter(status=Status.FAILED, claimed_by=self.fed.run)
        assert not ended_here.exclude(pk__in=told).exclude(pk__in=self.by_hand).exists()

    by_hand: Sequence[int] = ()
    """Those that somebody declared failed by hand: nobody can say why."""


@pytest.fixture
def runfile(tmp_path: Path) -> Iterator[RunFile]:
    """A run file of the test's own."""
    held = RunFile(tmp_path / "source.run")
    yield held
    held.release()


TURNS = [int(each) for each in os.environ.get("JOBSUP_TEST_TURNS", "0").split(",")]
"""At which moment each row is spoiled: of three turns, all moments have met all rows."""
SINGLE = [{column: value} for column, values in SPOILED.items() for value in values]


def lived_through(world: World, spoils: Sequence[Spoil]) -> None:
    """Spoil rows, each at one of three moments of its life in turn, and have all of them end."""
    pks = world.put(len(spoils))
    world.by_hand = [pk for pk, spoil in zip(pks, spoils, strict=True) if spoil.get("status") == Status.FAILED]
    waiting, read, running = (list(zip(pks, spoils, strict=True))[start::3] for start in range(3))
    for pk, values in waiting:
        world.spoil(pk, values)
    claimed = world.claim()
    for pk, values in read:
        world.spoil(pk, values)
    world.bench.runner.load(claimed)
    for pk, values in running:
        world.spoil(pk, values)
    world.play(claimed)
    world.look_after()
    again = world.claim()  # what was put back by the way
    world.bench.runner.load(again)
    world.play(again)
    world.look_after()
    world.assert_all_is_well()


@pytest.mark.parametrize("turn", TURNS)
def test_f47_whatever_stands_in_one_column_of_a_row_the_others_go_on(
    routed: str, runfile: RunFile, turn: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nonsense in each column: before the claim, before the worker reads it, while it runs; in turns."""
    caplog.set_level(logging.CRITICAL)
    lived_through(World(routed, runfile), [*SINGLE[turn:], *SINGLE[:turn]])


def test_f47_spoiled_rows_of_a_worker_that_was_killed_are_accounted_for(
    routed: str, runfile: RunFile, caplog: pytest.LogCaptureFixture
) -> None:
    """By a supervisor, which imports nothing and reads no more than it needs."""
    caplog.set_level(logging.CRITICAL)
    world = World(routed, runfile)
    spoils = SINGLE[::2]
    pks = world.put(len(spoils))
    world.by_hand = pks
    world.claim()
    for pk, values in zip(pks, spoils, strict=True):
        world.spoil(pk, values)
    world.bench.runner.load(world.good)
    world.play(world.good)
    world.look_after()
    world.assert_all_is_well()


EXAMPLES = int(os.environ.get("JOBSUP_TEST_EXAMPLES", "0"))
"""How many drawn anew; without it a few that are always the same."""
SPOILS = st.lists(
    st.dictionaries(st.sampled_from(sorted(SPOILED)), st.none(), min_size=2, max_size=5).flatmap(
        lambda chosen: st.fixed_dictionaries({column: st.sampled_from(SPOILED[column]) for column in chosen})
    ),
    min_size=6,
    max_size=12,
)


@settings(
    max_examples=EXAMPLES or 6,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(SPOILS)
def test_f47_whatever_stands_in_several_columns_the_others_go_on(
    routed: str, runfile: RunFile, caplog: pytest.LogCaptureFixture, spoils: list[Spoil]
) -> None:
    """In any combination, at any moment."""
    caplog.set_level(logging.CRITICAL)
    lived_through(World(routed, runfile), spoils)


def test_f47_manage_jobs_shows_what_there_is(routed: str, runfile: RunFile) -> None:
    """Each row, as text that steers no terminal and as JSON, whatever stands in it."""
    world = World(routed, runfile)
    spoils = [{column: value} for column, values in SPOILED.items() for value in values if _fits(column, value)]
    pks = world.put(len(spoils))
    for pk, values in zip(pks, spoils, strict=True):
        world.spoil(pk, values)
    for words in (("list", "--limit", 1000), ("stats",), ("doctor",), ("show", *pks[::4])):
        for said in (Said(*words), Said(*words, "--json")):
            assert said.error == ""
            assert all(char.isprintable() or char == "\n" for char in said.text)
    assert "status 99" in Said("list", "--limit", 1000).text
    known = [pk for pk, values in zip(pks, spoils, strict=True) if "status" not in values]
    assert Said("cancel", *known, "--yes").error == ""


def _fits(column: str, value: Any) -> bool:
    """Tell whether Python can read it; what is of another kind than its column is for the worker alone."""
    kind = Job._meta.get_field(column).get_internal_type()
    if value is None:
        return True
    if "Integer" in kind:
        return isinstance(value, int)
    if kind == "BooleanField":
        return isinstance(value, bool)
    return isinstance(value, str) and (kind != "DateTimeField" or value[:4] in ("2000", "9999"))


def test_f47_who_asks_for_a_result_is_told_in_words(bench: Bench) -> None:
    """That the row is not what jobsup wrote, and what of it."""
    for column, value, words in (
        ("status", 99, "the status in the row of job {} is 99"),
        ("arguments", "[", "the arguments in the row of job {} cannot be read"),
        ("arguments", '{"args":{},"kwargs":{}}', "the arguments in the row of job {} are not"),
        ("options", '{"timeout":-1}', "the options in its row cannot be read"),
    ):
        [pk] = put(bench.store)
        Job.objects.using(bench.alias).filter(pk=pk).update(**{column: value})
        with pytest.raises(RowUnreadable, match=words.format(pk)):
            tasks.noop.get_result(str(pk))


def test_f47_a_row_that_cannot_be_read_is_failed_in_words(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    """What hinders is emptied, so that the row can be shown and removed like any other."""
    bench = Bench(sqlite)
    pk, other = put(bench.store, 2)
    with connections[sqlite].cursor() as cursor:
        cursor.execute("UPDATE jobsup_job SET options = x'ff', max_attempts = 'many' WHERE id = %s", [pk])
    bench.work()
    assert (row(bench.store, pk).status, row(bench.store, other).status) == (Status.FAILED, Status.SUCCESSFUL)
    [told] = failures_of(bench.store, pk)
    assert told.exception_class_path == "jobsup.errors.RowUnreadable"
    assert told.traceback == "the row of the job cannot be read: somebody has changed max_attempts, options by hand"
    assert f"job {pk} is failed: the row of the job cannot be read" in caplog.text


@pytest.mark.parametrize("attempt", [32_766, 32_767, -32_768])
def test_f47_an_attempt_at_the_end_of_its_column_keeps_nobody_waiting(bench: Bench, attempt: int) -> None:
    """Neither its own job nor those behind it."""
    pks = put(bench.store, 2)
    Job.objects.using(bench.alias).filter(pk=pks[0]).update(attempt=attempt)
    assert bench.work() == pks
    assert {row(bench.store, pk).status for pk in pks} == {Status.SUCCESSFUL}


def test_f47_nonsense_in_the_row_of_a_schedule_stops_no_other(hourly: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once; a row that names a task inserts a job that says it is none."""
    given = dict(json.loads(Schedule.objects.using(hourly.alias).get().job or "{}"))
    nonsense: dict[str, list[Any]] = {
        "job": ["", "{", "[]", "7", "null", '{"task":7}', json.dumps({**given, "priority": "high"}),
                json.dumps({**given, "more": 1}), json.dumps({**given, "task": "x" * 300})],
        "cron": ["", "61 * * * *", "\x1b[2J", "* * * * * * *"],
        "interval_s": [0, 1, 2**31 - 1],
        "timezone": ["Nowhere", "../../etc/passwd", "\x1b"],
        "catch_up": ["", "never"],
    }  # fmt: skip
    good = Schedule.objects.using(hourly.alias).get()
    rows = []
    for column, values in nonsense.items():
        for number, value in enumerate(values):
            other = Schedule.objects.using(hourly.alias).get(pk=good.pk)
            other.name = f"{column} {number}"
            setattr(other, column, value)
            rows.append(other)
    Schedule.objects.using(hourly.alias).bulk_create(rows)
    ticking = Ticking(hourly, told=True)
    for _ in range(3):
        ticking.turn()
        ticking.look()
        Schedule.objects.using(hourly.alias).exclude(next_at=None).update(next_at="2020-01-01 00:30:00+00:00")
    ticking.turn()
    assert Job.objects.using(hourly.alias).filter(schedule="hourly").exists()
    for words in (("schedules",), ("schedules", "--json")):
        assert Said(*words).error == ""


def test_p12_p13_a_failure_is_text_that_fits_its_columns_whatever_it_is_made_of() -> None:
    """Neither NUL nor a lone surrogate, and no more than there is room for."""
    made = Failure("x\0" * 1000, "\0\ud800" * 100_000)
    assert len(made.exception_class_path) == 255
    assert len(made.traceback) < 2 * TRACEBACK_CHARS_MAX
    assert "\0" not in made.exception_class_path + made.traceback
    made.traceback.encode()


def test_p13_a_record_of_which_no_part_can_be_stored_is_told_as_a_stub(bench: Bench) -> None:
    """Whatever the database refuses of it; the next job's stands beside it."""
    pk, other = put(bench.store, 2)
    bench.claim()
    recorder = Recorder(bench.store, bench.run, bench.settled)
    outcome = failure(pk)
    hostile = outcome.row._replace(worker="\0" * 300, left_behind="\0", result="\0", uncounted=70_000)
    for each in (Outcome(hostile, outcome.failure), success(other)):
        recorder.keep(Entry(each.row.pk, each, 0.0, 0.0))
    recorder.flush()
    assert (row(bench.store, pk).status, row(bench.store, other).status) == (Status.FAILED, Status.SUCCESSFUL)
    [told] = failures_of(bench.store, pk)
    assert told.traceback
    if bench.alias == "postgresql":  # the others store what they are given
        assert told.traceback.startswith("the outcome could not be stored")
        assert set(told.worker) == {"?"}
