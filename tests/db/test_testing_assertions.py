"""The assertions of `jobsup.testing` tell what is enqueued instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from django.utils import timezone

from jobsup.testing import Jobs, assert_enqueued, assert_not_enqueued, enqueued, run_pending
from tests.db import chores

WHEN = datetime(2100, 1, 1, tzinfo=UTC)


def refused(**wanted: Any) -> str:
    """Return the message of an assertion about `chores.mail` that does not hold."""
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(chores.mail, **wanted)
    return str(caught.value)


def test_what_is_given_is_compared_and_nothing_else(routed: str) -> None:
    """Arguments as they come out of JSON, options as the job has them."""
    chores.mail.using(run_after=WHEN, timeout=timedelta(seconds=3)).enqueue("ann", copies=2)
    chores.mail.enqueue("ben")
    assert_enqueued(chores.mail)
    assert_enqueued("tests.db.chores.mail", count=2)
    assert_enqueued(chores.mail, args=("ann",), kwargs={"copies": ANY}, count=1)
    assert_enqueued(chores.mail, args=[ANY], count=2)
    assert_enqueued(chores.mail, queue="other", priority=7, count=2)
    assert_enqueued(chores.mail, run_after=WHEN, timeout=timedelta(seconds=3), count=1)
    assert_enqueued(chores.mail, run_after=None, timeout=None, args=["ben"], count=1)
    assert_enqueued(chores.add, count=0)
    assert_not_enqueued(chores.mail, args=["cat"])
    assert_not_enqueued(chores.add)


def test_the_message_says_what_is_enqueued_instead(routed: str) -> None:
    """With those arguments, queues and options that differ."""
    assert refused() == "no such job is enqueued: tests.db.chores.mail\nnothing is waiting"
    sent = chores.mail.enqueue("ann")
    other = chores.add.enqueue(1, b=2)
    waits = (
        f"waiting:\n  job {sent.id} tests.db.chores.mail('ann'), queue 'other', ready\n"
        f"  job {other.id} tests.db.chores.add(1, b=2), queue 'default', ready"
    )
    words = refused(args=("ben",), queue="default")
    assert words == f"no such job is enqueued: tests.db.chores.mail, args=['ben'], queue='default'\n{waits}"
    assert refused(count=2) == f"1 such job is enqueued, not 2: tests.db.chores.mail\n{waits}"
    assert "queue 'other', ready, priority=7\n" in refused(priority=1)


def test_what_ran_already_is_told_apart(routed: str) -> None:
    """It is not enqueued any more, and the message says that it was."""
    sent = chores.mail.enqueue("ann")
    run_pending()
    assert_not_enqueued()
    assert refused().splitlines()[1:] == [
        "nothing is waiting",
        "of this task, but not waiting any more:",
        f"  job {sent.id} tests.db.chores.mail('ann'), queue 'other', successful",
    ]


def test_what_should_not_be_enqueued_is_shown(routed: str) -> None:
    """One task, or nothing at all."""
    for number in range(25):
        chores.add.enqueue(number, 0)
    with pytest.raises(
        AssertionError, match=r"should not be: tests.db.chores.add, args=\[3, 0\]\nwaiting:\n  job \d+ "
    ):
        assert_not_enqueued(chores.add, args=[3, 0])
    with pytest.raises(AssertionError, match=r"should not be: any job\n(.*\n)*  \.\.\. and 5 more$"):
        assert_not_enqueued()


def test_an_option_that_does_not_exist_is_refused(routed: str) -> None:
    """Not taken for one that differs."""
    with pytest.raises(TypeError, match="there is no prio to compare; a job has args, kwargs, queue, run_after, prior"):
        assert_enqueued(chores.mail, prio=7)


def test_enqueued_lists_results(routed: str) -> None:
    """Of what waits, the oldest first; by task and queue if wanted."""
    later = chores.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 2)
    sent = chores.mail.enqueue("ann")
    assert [result.id for result in enqueued()] == [later.id, sent.id]
    assert [result.args for result in enqueued(chores.mail)] == [["ann"]]
    assert [result.id for result in enqueued(queue="default")] == [later.id]


def test_all_of_it_as_methods(routed: str) -> None:
    """For a TestCase and for the fixture of pytest."""
    jobs = Jobs()
    with jobs.immediate() as ran:
        chores.add.enqueue(1, 2)
    assert len(ran) == 1
    chores.mail.enqueue("ann")
    jobs.assert_enqueued(chores.mail)
    jobs.assert_not_enqueued(chores.add)
    assert len(jobs.enqueued()) == len(jobs.run_pending()) == 1
