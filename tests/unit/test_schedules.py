"""Schedules: their moments, over every change of the clocks; what is made up for; what is refused, in words."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsup import Schedule, task
from jobsup.compat import TASKS_APPS, InvalidTask
from jobsup.schedules import declared as declared_module
from jobsup.schedules.declared import declared
from jobsup.schedules.rhythm import CATCH_UP_MAX, LATE_S, Due, Rhythm, due, upcoming, zone_of

BERLIN = "Europe/Berlin"
SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight there; at 2:00 the clocks go to 3:00
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight there; at 3:00 they go back to 2:00
ZONES = [BERLIN, "America/New_York", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
CRONS = [
    "30 2 * * *", "*/30 * * * *", "0 0 * * *", "15 0,1,2,3 * * *", "*/7 0-3 * * *", "0 */2 * * *", "5 */3 * * 1-5",
    "*/20 0 * * *", "* 2 * * *", "0 0 1 * *", "@daily", "@hourly", "0 12 29 2 *", "0 0 * * sun#1", "0 0 L * *",
]  # fmt: skip
rhythms = st.one_of(
    st.builds(Rhythm, st.sampled_from(CRONS), st.none(), st.sampled_from(ZONES)),
    st.builds(Rhythm, st.just(""), st.integers(60, 100_000), st.just("UTC")),
)
moments = st.integers(1_420_000_000, 1_900_000_000).map(lambda since: datetime.fromtimestamp(since, UTC))


@pytest.fixture(autouse=True)
def _nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test leave its schedules to the workers of other tests."""
    monkeypatch.setattr(declared_module, "_declared", {})


def plain(number: int = 0) -> int:
    """Return it."""
    return number


def needs(number: int) -> int:
    """Return what must be given."""
    return number


def with_context(context: Any, number: int) -> int:
    """Ask for the context."""
    return number


def walls(cron: str, begin: datetime, count: int) -> list[str]:
    """Return the next moments as the clocks of Berlin show them, with their distance from UTC."""
    return [
        f"{tick.astimezone(zone_of(BERLIN)):%d %H:%M %z}" for tick in upcoming(Rhythm(cron, None, BERLIN), begin, count)
    ]


# -- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["29 03:00 +0200", "30 02:30 +0200"]),
        ("15 2,3 * * *", ["29 03:00 +0200", "29 03:15 +0200", "30 02:15 +0200"]),
        ("*/30 * * * *", ["29 00:30 +0100", "29 01:00 +0100", "29 01:30 +0100", "29 03:00 +0200"]),
        ("0 * * * *", ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]),
        ("*/30 2 * * *", ["30 02:00 +0200", "30 02:30 +0200"]),
    ],
)
def test_in_a_skipped_hour_a_fixed_time_comes_right_after_it_and_steps_go_on(cron: str, expected: list[str]) -> None:
    """As Debian's cron does it."""
    assert walls(cron, SPRING, len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("0 1-4 * * *", ["25 01:00 +0200", "25 02:00 +0200", "25 03:00 +0100", "25 04:00 +0100"]),
        ("*/30 2 * * *", ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100", "26 02:00 +0100"]),
        ("0 * * * *", ["25 01:00 +0200", "25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]),
    ],
)
def test_in_a_repeated_hour_a_fixed_time_comes_once_and_steps_go_on(cron: str, expected: list[str]) -> None:
    """As Debian's cron does it: what has a star in its minutes or hours goes by the time that passes."""
    assert walls(cron, AUTUMN, len(expected)) == expected


@pytest.mark.parametrize("cron", ["45 2 * * *", "0 1-4 * * *"])
def test_whoever_looks_in_the_repeated_hour_finds_no_moment_of_the_first_one(cron: str) -> None:
    """Which lies behind: it would be due at once, again and again."""
    between = AUTUMN + timedelta(hours=3, minutes=30)  # 2:30 for the second time
    [following] = upcoming(Rhythm(cron, None, BERLIN), between, 1)
    assert following > between


def test_the_29th_of_february_comes_every_four_years() -> None:
    """And not in 2100."""
    ticks = upcoming(Rhythm("0 3 29 2 *"), datetime(2092, 3, 1, tzinfo=UTC), 3)
    assert [tick.year for tick in ticks] == [2096, 2104, 2108]


def test_an_interval_has_the_same_moments_on_every_machine() -> None:
    """The multiples since 1970, whenever one begins to look."""
    begin = datetime(2026, 1, 1, 0, 3, 7, 5, tzinfo=UTC)
    assert upcoming(Rhythm(interval_s=300), begin, 2) == [
        datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in (5, 10)
    ]
    assert upcoming(Rhythm(interval_s=300), datetime(2026, 1, 1, 0, 5, tzinfo=UTC), 1) == [
        datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    ]


@settings(max_examples=300, deadline=None)
@given(rhythms, moments, st.integers(0, 5 * 86400), st.integers(0, 999_999))
def test_moments_come_in_order_whenever_one_begins_to_look(
    rhythm: Rhythm, begin: datetime, later_s: int, microseconds: int
) -> None:
    """What is found from later on is what is left of what was found from earlier on."""
    ticks = upcoming(rhythm, begin, 40)
    assert all(one < other for one, other in pairwise([begin, *ticks]))
    later = min(begin + timedelta(seconds=later_s, microseconds=microseconds), ticks[-1])
    left = [tick for tick in ticks if tick > later]
    assert upcoming(rhythm, later, len(left)) == left


@settings(max_examples=150, deadline=None)
@given(rhythms, moments, st.lists(st.integers(1, 20_000), min_size=1, max_size=25))
def test_looks_at_any_times_take_each_moment_once(rhythm: Rhythm, begin: datetime, pauses: list[int]) -> None:
    """Each look begins where the one before ended; together they have what there is, and nothing twice."""
    next_at, now, taken = next(rhythm.after(begin)), begin, []
    for pause_s in pauses:
        now += timedelta(seconds=pause_s)
        verdict = due(rhythm, next_at, now, "all")
        missed = [tick for tick in verdict.ticks if tick <= begin]
        assert not missed
        taken += verdict.ticks
        if verdict.missed:
            return  # more than may be made up for in one look
        assert verdict.next_at is not None
        next_at = verdict.next_at
        assert next_at > now
    assert taken == [tick for tick in upcoming(rhythm, begin, len(taken) + 1) if tick <= now]


# -- what is made up for ----------------------------------------------------------------------------------------------


HOURLY = Rhythm("0 * * * *")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_one_moment_that_is_due_now_is_taken_by_every_rule(catch_up: str) -> None:
    """That is no catching up."""
    now = NOON + timedelta(seconds=1)
    assert due(HOURLY, NOON, now, catch_up) == Due([NOON], 0, NOON, NOON + timedelta(hours=1))


def test_what_is_not_due_is_left_alone() -> None:
    """Even if it will be in a millisecond."""
    assert due(HOURLY, NOON, NOON - timedelta(milliseconds=1), "all") == Due([], 0, None, NOON)


def test_after_a_time_without_supervisors_the_rule_decides() -> None:
    """The newest of the missed ones, all of them, or none; the next one is the same for all."""
    now, hour = NOON + timedelta(hours=3, minutes=30), timedelta(hours=1)
    last, following = NOON + 3 * hour, NOON + 4 * hour
    assert due(HOURLY, NOON, now, "latest") == Due([last], 3, last, following)
    assert due(HOURLY, NOON, now, "all") == Due([NOON, NOON + hour, NOON + 2 * hour, last], 0, last, following)
    assert due(HOURLY, NOON, now, "none") == Due([], 4, last, following)


def test_without_catching_up_a_moment_may_be_noticed_a_little_late() -> None:
    """Up to a minute."""
    in_time, late = (NOON + timedelta(seconds=LATE_S + more) for more in (0, 0.1))
    assert due(HOURLY, NOON, in_time, "none").ticks == [NOON]
    assert due(HOURLY, NOON, late, "none").ticks == []


@pytest.mark.parametrize("rhythm", [Rhythm("* * * * *", None, BERLIN), Rhythm(interval_s=1), Rhythm("0 3 * * *")])
def test_the_newest_hundred_are_made_up_for_at_most(rhythm: Rhythm) -> None:
    """After years as quickly as after a day."""
    verdict = due(rhythm, NOON, datetime(2036, 1, 1, 3, tzinfo=UTC), "all")
    assert len(verdict.ticks) == CATCH_UP_MAX
    assert verdict.missed > 0
    assert verdict.ticks[-1] == datetime(2036, 1, 1, 3, tzinfo=UTC)
    assert [*pairwise(verdict.ticks)] == [(one, next(rhythm.after(one))) for one in verdict.ticks[:-1]]


def test_a_moment_that_is_none_any_more_is_taken_all_the_same() -> None:
    """A row may have been changed by hand: where it stands counts."""
    odd = NOON - timedelta(minutes=7)
    assert due(HOURLY, odd, NOON, "all").ticks == [odd, NOON]


# -- what is declared -------------------------------------------------------------------------------------------------


def test_a_schedule_is_an_expression_an_interval_or_an_object_or_several() -> None:
    """Under the task's name, where it is the only one."""
    path = f"{__name__}.plain"
    for given_, rhythm in (("*/5  * * * *", Rhythm("*/5 * * * *", None, "")), (300, Rhythm("", 300, "")),
                           (timedelta(minutes=5), Rhythm("", 300, ""))):  # fmt: skip
        made = task(schedule=given_)(plain)
        [one] = declared().values()
        assert (one.name, one.task, one.schedule.rhythm()) == (path, made, rhythm)
    task(schedule=[Schedule("0 3 * * mon", args=[1], timezone=BERLIN, catch_up="all"), Schedule(60, name="often")])(
        plain
    )
    assert sorted(declared()) == sorted([f"{path} 0 3 * * mon", "often"])
    assert declared()[f"{path} 0 3 * * mon"].schedule.rhythm() == Rhythm("0 3 * * mon", None, BERLIN)


def test_a_schedule_belongs_to_the_task_as_it_is_declared() -> None:
    """Neither a copy with other options nor an equal task without one has it; a task with one can be a key."""
    made = task(schedule=["@daily"])(plain)
    assert made.using(priority=3).schedule is None
    assert declared()[made.module_path].task.priority == 0
    assert hash(made) == hash(dataclasses.replace(made, schedule=None))


def test_another_backend_is_not_bothered() -> None:
    """What only jobsup knows is left out there."""
    backend = f"django{'_tasks' if TASKS_APPS else '.tasks'}.backends.dummy.DummyBackend"
    with override_settings(TASKS={"default": {"BACKEND": backend}}):
        task(schedule="@daily")(plain)
    assert not declared()


def refused(schedule: Any, function: Any = plain, **options: Any) -> str:
    """Return how a declaration is refused."""
    with pytest.raises(InvalidTask) as error:
        task(schedule=schedule, **options)(function)
    return str(error.value)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("61 * * * *", "'61 * * * *' is no cron expression: Bad minute."),
        ("every day", "'every day' is no cron expression: Wrong number of fields."),
        ("", "expected either a cron expression or an interval."),
        ("0 0 31 4 *", "'0 0 31 4 *' is no cron expression: Bad day-of-month."),
        ("0 " * 60, "expected a cron expression of at most 100 characters."),
        (0, "expected an interval from 1 second to 366 days."),
        (-5, "expected an interval from 1 second to 366 days."),
        (timedelta(days=367), "expected an interval from 1 second to 366 days."),
        (1.5, "expected an interval of whole seconds."),
        (timedelta(milliseconds=1500), "expected an interval of whole seconds."),
        (math.nan, "expected an interval of whole seconds."),
        (True, "expected a cron expression, an interval in seconds or a timedelta."),
        ({"hour": 3}, "expected a cron expression, an interval in seconds or a timedelta."),
        ([], "expected at least one schedule."),
        (Schedule("@daily", timezone="Europe/Berlinn"), "'Europe/Berlinn' is no time zone that this machine knows."),
        (Schedule("@daily", timezone="../etc"), "'../etc' is no time zone that this machine knows."),
        (Schedule(60, timezone="UTC"), "an interval has no time zone: its moments are the same everywhere."),
        (Schedule(60, catch_up="some"), "catch_up is 'some', expected one of latest, all, none."),
        (Schedule(60, args="1"), "args is '1', expected a list or a tuple."),
        (Schedule(60, kwargs={1: 2}),  # type: ignore[dict-item]
         "kwargs is {1: 2}, expected a dict with names as keys."),
        (Schedule(60, name=""), "the name is '', expected 1 to 200 characters."),
        (Schedule(60, name="n" * 201), f"the name is '{'n' * 201}', expected 1 to 200 characters."),
    ],
)  # fmt: skip
def test_what_cannot_be_a_schedule_is_refused_in_a_sentence(schedule: Any, expected: str) -> None:
    """At the declaration, with what was given."""
    said = refused(schedule)
    assert said.startswith("schedule is ")
    assert said.endswith(f": {expected}")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("@daily", "cannot be called with these arguments: missing a required argument: 'number'."),
        (Schedule("@daily", args=[1, 2]), "cannot be called with these arguments: too many positional arguments."),
        (Schedule("@daily", kwargs={"n": 1}), "missing a required argument: 'number'."),
        (Schedule("@daily", args=[{1, 2}]), "the arguments cannot be stored as JSON: "),
        (Schedule("@daily", args=[math.nan]), "the arguments cannot be stored as JSON: "),
    ],
)
def test_arguments_that_the_task_does_not_take_are_refused_in_a_sentence(schedule: Any, expected: str) -> None:
    """Not when the first job fails at three in the morning."""
    said = refused(schedule, needs)
    assert said.startswith(f"schedule {__name__}.needs: ")
    assert expected in said


def test_the_context_is_no_argument_of_the_schedule() -> None:
    """A task that takes it gets it like any other job."""
    task(schedule=Schedule("@daily", args=[1]), takes_context=True)(with_context)
    said = refused(Schedule("@daily", args=[1, 2]), with_context, takes_context=True)
    assert "too many positional arguments" in said


def test_two_schedules_of_one_name_are_refused() -> None:
    """Of one task or of two."""
    twice = [Schedule("@daily", args=[1]), Schedule("@daily", args=[2])]
    path = f"{__name__}.plain"
    assert refused(twice) == (
        f"schedule {path} @daily is declared twice, for {path} and {path}: give one of them another name."
    )
    task(schedule=Schedule("@daily", name="nightly"))(plain)
    assert "nightly is declared twice" in refused(Schedule("@daily", args=[1], name="nightly"), needs)


def test_using_has_no_schedule() -> None:
    """An enqueue happens once; when, says run_after."""
    with pytest.raises(TypeError, match="schedule"):
        task(plain).using(schedule="@daily")  # type: ignore[call-arg]
