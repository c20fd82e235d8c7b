"""When a job is tried again: the delays, the options and what they are in a row, and what a job may raise."""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from jobsup import Backoff, Discard, JobCancelled, JobTimeout, MemoryLimitExceeded, Retry, Snooze, WorkerLost, task
from jobsup.compat import InvalidTask, TaskError
from jobsup.errors import JobsupError
from jobsup.judge import policy_of
from jobsup.options import options_of, text_of
from jobsup.retries import ASKS_ITS_DECLARATION, DEFAULT_BACKOFF, DELAY_MAX_S, is_named, path_of
from jobsup.telling import exception_of

FRACTIONS = st.floats(0, 1, exclude_max=True)
BACKOFFS = st.builds(
    lambda base, factor, longer, jitter: Backoff(base, factor, min(DELAY_MAX_S, base + longer), jitter),
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 1e7),
    st.floats(0, 1),
)
NAN = math.nan


class Busy(ConnectionError):
    """Derived from what is built in."""


Alias = Busy


class Deep:
    """A place below the top level."""

    @staticmethod
    def slowly(_error: BaseException, _result: Any) -> float:
        """Wait for a minute."""
        return 60.0


def plain() -> None:
    """Do nothing."""


def by_error(error: BaseException, _result: Any) -> Any:
    """Do what the exception says."""
    if isinstance(error, LookupError):
        raise error
    return error.args[0]


async def coroutine(_error: BaseException, _result: Any) -> float:
    """Come too late."""
    return 1.0


def alone(_error: BaseException) -> float:
    """Know too little."""
    return 1.0


# ---- delays


def test_without_a_word_the_delay_doubles_up_to_an_hour() -> None:
    """1, 2, 4 ... 3600 seconds, however high the attempt, and nothing left to chance."""
    delays = [DEFAULT_BACKOFF.delay_s(attempt) for attempt in (1, 2, 3, 4, 12, 13, 1000, 30_000)]
    assert delays == [1, 2, 4, 8, 2048, 3600, 3600, 3600]


@given(BACKOFFS, st.integers(1, 30_000), FRACTIONS)
def test_delays_are_as_the_formula_says(backoff: Any, attempt: int, drawn: float) -> None:
    """Bounded by the longest one, never shrinking but by chance, and that by no more than its share."""
    whole, following = backoff.delay_s(attempt, lambda: 0.0), backoff.delay_s(attempt + 1, lambda: 0.0)
    delay_s = backoff.delay_s(attempt, lambda: drawn)
    assert 0 <= whole <= following <= backoff.max
    assert whole * (1 - backoff.jitter) <= delay_s <= whole
    assert delay_s == whole * (1 - backoff.jitter * drawn)
    if attempt == 1:
        assert whole == backoff.base
    if attempt <= 5:
        assert math.isclose(whole, min(backoff.max, backoff.base * backoff.factor ** (attempt - 1)))


@given(st.floats(0.1, 1e6), st.floats(1.5, 100), st.floats(0, 1), FRACTIONS, FRACTIONS)
def test_who_failed_together_is_not_tried_again_together(
    base: float, factor: float, jitter: float, one: float, other: float
) -> None:
    """As far as the jitter says, anew for each."""
    backoff = Backoff(base, factor, DELAY_MAX_S, jitter)
    apart_s = abs(backoff.delay_s(3, lambda: one) - backoff.delay_s(3, lambda: other))
    assert math.isclose(apart_s, backoff.delay_s(3, lambda: 0.0) * jitter * abs(one - other), abs_tol=1e-6)


def test_chance_is_asked_where_nobody_else_says() -> None:
    """And the default leaves a tenth to it."""
    delays = {Backoff().delay_s(1) for _ in range(100)}
    assert len(delays) > 50
    assert all(0.9 < delay_s <= 1 for delay_s in delays)


def test_times_may_be_timedeltas() -> None:
    """They are kept in seconds."""
    assert Backoff(timedelta(seconds=2), max=timedelta(minutes=1)) == Backoff(base=2, max=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base": -1}, r"Backoff\(base=-1\): must lie between 0 and 31622400 seconds"),
        ({"base": NAN}, r"Backoff\(base=nan\): must lie between"),
        ({"base": "1"}, r"Backoff\(base='1'\): expected seconds or a timedelta"),
        ({"base": True}, r"Backoff\(base=True\): expected seconds or a timedelta"),
        ({"factor": 0.5}, r"Backoff\(factor=0.5\): expected a number from 1 to 100"),
        ({"factor": NAN}, r"Backoff\(factor=nan\)"),
        ({"factor": None}, r"Backoff\(factor=None\)"),
        ({"max": math.inf}, r"Backoff\(max=inf\): must lie between"),
        ({"base": 20, "max": 10}, r"Backoff\(max=10\): must not be less than base, which is 20"),
        ({"jitter": 1.1}, r"Backoff\(jitter=1.1\): expected a number from 0 to 1"),
        ({"jitter": -0.1}, r"Backoff\(jitter=-0.1\)"),
        ({"jitter": NAN}, r"Backoff\(jitter=nan\)"),
    ],
)
def test_delays_that_cannot_be_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    """Each where it is written down."""
    with pytest.raises((TypeError, ValueError), match=words):
        Backoff(**arguments)


# ---- the options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backoff": -1}, "backoff is -1: must lie between 0 and 31622400 seconds"),
        ({"backoff": NAN}, "backoff is nan: must lie between 0 and"),
        ({"backoff": timedelta(days=400)}, "backoff is datetime.timedelta.*: must lie between"),
        ({"backoff": True}, "backoff is True: expected seconds, a timedelta, a jobsup.Backoff, or a function"),
        ({"backoff": [1, 2, 4]}, "expected seconds, a timedelta, a jobsup.Backoff, or a function backoff"),
        ({"backoff": Backoff}, "expected seconds, a timedelta, a jobsup.Backoff, or a function backoff"),
        ({"backoff": coroutine}, "a function backoff.*, which is no coroutine"),
        ({"backoff": alone}, "expected a function that takes two arguments, backoff"),
        ({"backoff": "soon"}, "backoff is 'soon': expected the path of a function such as"),
        ({"retry_on": 5}, "retry_on is 5: expected exception classes or their paths such as .* in a tuple"),
        ({"retry_on": "Timeout"}, "retry_on is 'Timeout': expected exception classes or their paths"),
        ({"retry_on": (ValueError, int)}, "<class 'int'> is no exception class, nor the path of one"),
        ({"retry_on": (ValueError(),)}, r"ValueError\(\) is no exception class"),
        ({"retry_on": {ValueError}}, "in a tuple"),
        ({"discard_on": ("a b",)}, "discard_on is .*: 'a b' is no exception class"),
        ({"retry_on": ValueError, "discard_on": (KeyError, ValueError)}, "both name builtins.ValueError: it can be in"),
    ],
)
def test_options_that_cannot_be_are_refused_where_they_are_declared(options: dict[str, Any], words: str) -> None:
    """And where they are changed."""
    with pytest.raises(InvalidTask, match=words):
        task(**options)(plain)
    with pytest.raises(InvalidTask, match=words):
        task(plain).using(**options)


def test_a_function_that_no_worker_would_find_is_refused_by_using_only() -> None:
    """Beside the declaration it is found with that."""
    for function in (lambda _error, _result: 1.0, functools.partial(by_error)):
        declared = task(backoff=function, max_attempts=2)(plain)
        assert text_of(declared) == f'{{"backoff": "{ASKS_ITS_DECLARATION}"}}'
        assert text_of(declared.using(priority=1)) == text_of(declared)
        with pytest.raises(InvalidTask, match=r"a function given by using\(\) must stand at the top level of a module"):
            task(plain).using(backoff=function)


@pytest.mark.parametrize(
    ("options", "kept", "read"),
    [
        ({"backoff": timedelta(minutes=1)}, '{"backoff": 60.0}', 60.0),
        ({"backoff": 0}, '{"backoff": 0}', 0),
        (
            {"backoff": Backoff(2, 3, 4, 0.5)},
            '{"backoff": {"base": 2.0, "factor": 3.0, "max": 4.0, "jitter": 0.5}}',
            Backoff(2, 3, 4, 0.5),
        ),
        ({"backoff": by_error}, f'{{"backoff": "{__name__}.by_error"}}', f"{__name__}.by_error"),
        (
            {"backoff": Deep.slowly},
            f'{{"backoff": "{__name__}.Deep.slowly"}}',
            f"{__name__}.Deep.slowly",
        ),
        ({"backoff": "shop.retries.slowly"}, '{"backoff": "shop.retries.slowly"}', "shop.retries.slowly"),
    ],
)
def test_a_row_keeps_what_becomes_the_option_again(options: dict[str, Any], kept: str, read: Any) -> None:
    """Numbers and paths; what was read can be given again."""
    text = text_of(task(**options)(plain))
    assert text == kept
    assert options_of(text)["backoff"] == read
    assert text_of(task(backoff=read)(plain)) == kept


def test_a_row_keeps_exceptions_by_their_paths() -> None:
    """One alone is a tuple of one; none at all is not the same as nothing said."""
    made = task(retry_on=(Busy, "requests.Timeout"), discard_on=KeyError)(plain)
    text = text_of(made)
    assert text == f'{{"retry_on": ["{__name__}.Busy", "requests.Timeout"], "discard_on": ["builtins.KeyError"]}}'
    assert policy_of(3, text) == (3, None, (f"{__name__}.Busy", "requests.Timeout"), ("builtins.KeyError",))
    assert policy_of(None, text_of(task(retry_on=())(plain))).retry_on == ()
    assert policy_of(None, None) == (None, None, None, ())
    assert options_of(text)["retry_on"] == (f"{__name__}.Busy", "requests.Timeout")


def test_paths_are_only_of_what_is_there() -> None:
    """A function whose name has become another one's cannot be found by it."""
    stranger: Any = SimpleNamespace(__module__=__name__, __qualname__="by_error")
    gone: Any = SimpleNamespace(__module__="no.such.module", __qualname__="f")
    assert path_of(by_error) == f"{__name__}.by_error"
    assert path_of(stranger) is None
    assert path_of(gone) is None


@pytest.mark.parametrize(
    ("kind", "names", "named"),
    [
        (Busy, ("builtins.ConnectionError",), True),
        (ConnectionError, (f"{__name__}.Busy",), False),
        (Busy, ("builtins.Exception",), True),
        (Busy, (), False),
        (JobTimeout, ("jobsup.JobTimeout",), True),
        (JobTimeout, ("jobsup.errors.JobInterrupted",), True),
        (JobTimeout, ("builtins.Exception",), False),
        (JobTimeout, ("builtins.BaseException",), True),
        (WorkerLost, ("jobsup.WorkerLost", "no.such.Thing"), True),
        (MemoryLimitExceeded, ("jobsup.errors.JobsupError",), True),
        (MemoryLimitExceeded, ("jobsup.WorkerLost",), False),
    ],
)
def test_an_exception_is_named_by_its_class_or_one_above(
    kind: type[BaseException],
    names: tuple[str, ...],
    named: bool,  # noqa: FBT001
) -> None:
    """By their paths alone, so that a supervisor can tell without importing anything."""
    assert is_named(kind, names) is named


# ---- what a job may raise


@pytest.mark.parametrize("kind", [Retry, Snooze])
def test_a_job_says_when(kind: Any) -> None:
    """In so many seconds, after a timedelta, at a datetime; a moment in the past is now."""
    assert kind(30).delay_s() == 30
    assert kind(timedelta(minutes=1)).delay_s() == 60
    in_an_hour = kind(timezone.now() + timedelta(hours=1))
    assert 3590 < in_an_hour.delay_s() <= 3600
    assert kind(datetime(2020, 1, 1, tzinfo=UTC)).delay_s() == 0
    assert kind(datetime(3000, 1, 1, tzinfo=UTC)).delay_s() == DELAY_MAX_S
    with override_settings(USE_TZ=False):
        assert kind(datetime(2020, 1, 1)).delay_s() == 0  # noqa: DTZ001
    assert not isinstance(kind(1), Exception), "`except Exception` lets it through"


def test_what_is_raised_says_what_it_is() -> None:
    """For the job's errors."""
    assert str(Retry()) == "the job asked to be tried again"
    assert str(Retry(after=1.5)) == "the job asked to be tried again after 1.5 s"
    assert str(Retry(datetime(2030, 1, 2, tzinfo=UTC))).endswith("tried again at 2030-01-02 00:00:00+00:00")
    assert str(Snooze(60)) == "the job asked to run after 60 s"
    assert (str(Discard("the order is gone")), str(Discard())) == ("the order is gone", "the job discarded itself")


@pytest.mark.parametrize("kind", [Retry, Snooze])
@pytest.mark.parametrize(
    ("after", "words"),
    [
        (-1, r"\(after=-1\): must lie between 0 and 31622400 seconds"),
        (NAN, r"\(after=nan\): must lie between"),
        ("soon", r"\(after='soon'\): expected seconds, a timedelta or a datetime"),
        (True, r"\(after=True\): expected seconds"),
        (datetime(2020, 1, 1), r"expected a datetime with a time zone, since USE_TZ is True"),  # noqa: DTZ001
    ],
)
def test_a_time_that_cannot_be_is_refused_where_it_is_raised(kind: Any, after: Any, words: str) -> None:
    """In the job's own code."""
    with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}.*{words}"):
        kind(after)


def test_a_snooze_without_a_time_is_none() -> None:
    """It would run again at once, for ever."""
    nothing: Any = None
    with pytest.raises(TypeError, match=r"Snooze\(after=None\): expected seconds, a timedelta or a datetime"):
        Snooze(nothing)


# ---- what receivers find


class Picky(Exception):
    """Wants more than words."""

    def __init__(self, words: str, number: int) -> None:
        super().__init__(words, number)


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("jobsup.errors.WorkerLost", WorkerLost, "worker 1 ended"),
        ("jobsup.errors.JobTimeout", JobTimeout, "worker 1 ended"),
        ("jobsup.errors.JobCancelled", JobCancelled, "worker 1 ended"),
        (f"{__name__}.Picky", JobsupError, f"{__name__}.Picky: worker 1 ended"),
        ("no.such.Error", JobsupError, "no.such.Error: worker 1 ended"),
    ],
)
def test_an_error_that_is_only_known_by_its_words_is_an_exception_again(path: str, kind: Any, words: str) -> None:
    """Of its class, if that can be; without the stack that stands below the words."""
    error = exception_of(TaskError(exception_class_path=path, traceback="worker 1 ended\n\n  a stack"))
    assert (type(error), str(error)) == (kind, words)
