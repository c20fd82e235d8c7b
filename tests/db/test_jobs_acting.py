"""`manage.py jobs`: what the actions ask, do and tell that change jobs, run tasks or wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.test import override_settings

from jobsup import task
from jobsup.cli.running import values
from jobsup.compat import task_finished
from jobsup.models import Job, Schedule, Status
from jobsup.store import Store
from tests.db.rows import NOOP, begin, claimed, put, row, success
from tests.db.said import ADD, Said, failed, status


@task(unique=True, on_conflict="raise")
def alone() -> None:
    """Be enqueued once."""


@pytest.fixture
def store(routed: str) -> Store:
    """The store to which everything goes."""
    return Store(routed)


# -- changing ---------------------------------------------------------------------------------------------------------


def test_many_are_cancelled_after_a_question(store: Store) -> None:
    """It tells how many of what; "no" and silence change nothing."""
    pks = [*put(store, 2, queue="other"), *put(store, queue="other", task="a.b")]
    [safe] = put(store)
    for answer in ("n\n", "\n", ""):
        said = Said("cancel", "--queue", "other", answer=answer)
        assert said.asked == f"cancel 3 jobs (2 x {NOOP} (ready), 1 x a.b (ready))? [y/N] "
        assert (said.code, said.error) == (1, "nothing was changed")
    assert {status(store, pk) for pk in pks} == {Status.READY}
    assert Said("cancel", "--queue", "other", answer="y\n").lines == ["3 jobs cancelled"]
    assert {status(store, pk) for pk in pks} == {Status.CANCELLED}
    assert status(store, safe) is Status.READY


@pytest.mark.parametrize("words", [("cancel",), ("retry", "--status", "cancelled"), ("priority", "5"), ("prune",)])
def test_where_nobody_can_be_asked_it_is_refused(store: Store, words: tuple[str, ...]) -> None:
    """Unless --yes was said; what matches nothing is no question."""
    pks = put(store, 2)
    if words[0] in ("retry", "prune"):
        store.cancel(pks)
    said = Said(*words, "--queue", "default")
    assert said.error.endswith("nobody is here to ask (stdin is no terminal); say --yes if that is meant")
    assert "2 jobs" in said.error
    assert said.code == 2
    assert Said(*words, "--queue", "default", "--yes").code == 0
    assert Said(*words, "--queue", "nobody").code == 0


def test_receivers_hear_of_what_is_cancelled_here(store: Store) -> None:
    """Once for each job that had waited."""
    pks, heard = put(store, 2), []

    def receiver(sender: Any, task_result: Any, **_kwargs: Any) -> None:
        heard.append(int(task_result.id))

    task_finished.connect(receiver)
    try:
        Said("cancel", *pks)
        Said("cancel", *pks)
    finally:
        task_finished.disconnect(receiver)
    assert heard == pks


def test_a_limit_takes_the_oldest(store: Store) -> None:
    """Of those that match."""
    first, second = put(store, 2)
    assert Said("cancel", "--status", "ready", "--limit", 1, "--yes", "--json").json == {str(first): "cancelled"}
    assert status(store, second) is Status.READY


def test_what_runs_is_asked_to_end(store: Store) -> None:
    """And counted by itself."""
    claimed(store, begin(store))
    put(store)
    assert Said("cancel", "--task", NOOP, "--yes").lines == ["1 job cancelled, 1 job asked to end"]


def test_failed_jobs_are_tried_anew_by_id_or_by_filter(store: Store) -> None:
    """By a filter only those that failed, unless --status says otherwise."""
    refused, other = failed(store, "connection refused"), failed(store)
    [cancelled] = put(store)
    store.cancel([cancelled])
    assert Said("retry", "--error", "REFUSED", "--yes").lines == ["1 job put back"]
    assert (status(store, refused), status(store, other)) == (Status.READY, Status.FAILED)
    assert Said("retry", other, "--json").json == {"retried": [other]}
    assert Said("retry", "--queue", "default").code == 0, "there is none that failed any more"
    assert status(store, cancelled) is Status.CANCELLED
    assert Said("retry", "--status", "cancelled", "--yes").lines == ["1 job put back"]
    said = Said("retry", cancelled)
    assert said.lines == [f"job {cancelled}: left alone: it is ready"]
    assert said.error == f"only what failed or was cancelled is tried anew: job {cancelled} is not"


def test_priorities_are_changed_by_id_or_by_filter(store: Store) -> None:
    """Negative ones too."""
    first, second = put(store, 2)
    assert Said("priority", 50, second).lines == ["1 job of priority 50 now"]
    assert Said("priority", -5, "--queue", "default", "--limit", 1, "--yes", "--json").json == {
        "priority": -5, "changed": [first],
    }  # fmt: skip
    assert (row(store, first).priority, row(store, second).priority) == (-5, 50)
    store.cancel([first])
    assert Said("priority", 1, first).error == f"ended before: job {first}"


def test_old_jobs_are_removed_by_the_setting_or_by_a_filter(store: Store) -> None:
    """Ages count from the end; --dry-run removes none."""
    run = begin(store)
    old, young = claimed(store, run), claimed(store, run)
    store.finish(run, [success(old), success(young)])
    jobs = Job.objects.using(store.alias)
    jobs.update(enqueued_at=F("enqueued_at") - timedelta(days=9))
    jobs.filter(pk=old).update(finished_at=F("finished_at") - timedelta(days=8))
    assert Said("prune", "--dry-run").lines == ["1 job to be removed"]
    said = Said("prune", answer="y\n")
    assert (said.asked, said.lines) == ("remove 1 job whose time is over? [y/N] ", ["1 job removed"])
    assert Said("prune", "--older", "1h", "--yes", "--json").json == {"removed": 0, "would_remove": 0, "more": False}
    assert Said("prune", young, "--dry-run").lines == ["1 job to be removed"]
    said = Said("prune", "--task", "*.noop", answer="yes\n")
    assert (said.asked, said.lines) == ("remove 1 job (1 successful)? [y/N] ", ["1 job removed"])
    assert not jobs.exists()


def test_queues_are_paused_and_go_on(store: Store) -> None:
    """By their names, or all; without one it is shown which are paused."""
    assert Said("pause").lines == ["no queue is paused"]
    said = Said("pause", "mail", "default")
    assert (said.lines, said.asked) == (["queue mail paused", "queue default paused"], "")
    assert Said("pause", "mail").lines == ["queue mail was paused before"]
    assert [line.split()[0] for line in Said("pause").lines] == ["QUEUE", "default", "mail"]
    assert Said("resume", "mail", "other").lines == ["queue mail goes on", "queue other was not paused"]
    told = Said("resume", "--all", "--json").json
    assert told == {"changed": ["default"], "paused": {}}


def test_a_queue_that_no_backend_has_is_remarked_on(store: Store) -> None:
    """It may be misspelt; or its old jobs still wait."""
    with override_settings(
        TASKS={"default": {"BACKEND": "jobsup.backend.JobsupBackend", "QUEUES": ["default", "slow"]}}
    ):
        said = Said("pause", "slwo", "slow")
    assert said.lines == ["queue slwo paused", "queue slow paused"]
    assert said.asked == "no backend in TASKS has the queue slwo; there are default, slow\n"


def test_a_task_of_which_there_is_one_is_refused_in_a_sentence(store: Store) -> None:
    """When it declares that a second one is an error."""
    path = f"{__name__}.{alone.name}"
    assert Said("run", path).code == 0
    [pk] = Job.objects.using(store.alias).values_list("pk", flat=True)
    said = Said("run", path)
    assert (said.code, said.error) == (1, f"{path}: job {pk} of {path} has this unique key")


def test_schedules_are_listed_with_their_next_runs(store: Store) -> None:
    """The one that is due first at first; what is wrong or not in use is told."""
    assert Said("schedules").lines == ["there are no schedules"]
    rows = Schedule.objects.using(store.alias)
    rows.create(name="nightly", task=NOOP, cron="30 2 * * *", timezone="Europe/Berlin", job="{}")
    rows.create(name="often", task=ADD, interval_s=600, job="{}")
    rows.create(name="odd", task=ADD, cron="61 * * * *")
    rows.create(name="off", task=ADD, interval_s=60, enabled=False, job="{}")
    said = Said("schedules", "--next", "2")
    assert said.lines[0].split() == ["NAME", "TASK", "WHEN", "LAST", "NEXT", "REMARKS"]
    assert [line.split()[0] for line in said.lines[1::2]][:2] == ["often", "nightly"], "each with a line for its second"
    assert "30 2 * * * Europe/Berlin" in said.text
    assert said.text.count("not in use") == 1
    told = {each["name"]: each for each in Said("schedules", "--json").jsons}
    assert [len(told[name]["next_at"]) for name in ("often", "nightly", "odd", "off")] == [3, 3, 0, 0]
    assert told["odd"]["trouble"]


# -- run and wait -----------------------------------------------------------------------------------------------------


def test_words_become_arguments() -> None:
    """JSON where it can be that, else a text; NAME=VALUE is a keyword."""
    assert values(["1", "two", '"3"', "[4]", "five=5", "six=six seven", "eight=", "null", "nine=a=b"]) == (
        [1, "two", "3", [4], None], {"five": 5, "six": "six seven", "eight": "", "nine": "a=b"},
    )  # fmt: skip


def test_a_task_is_enqueued_from_the_shell(store: Store) -> None:
    """With its own options, or with others."""
    said = Said("run", ADD, "1", "b=2", "--queue", "other", "--priority", "-7", "--after", "1h", "--json")
    job = Job.objects.using(store.alias).get(pk=said.json["id"])
    assert (job.task, job.queue, job.priority, job.status) == (ADD, "other", -7, Status.SCHEDULED)
    assert job.run_after is not None
    assert 3500 < (job.run_after - job.enqueued_at).total_seconds() < 3700
    assert Said("run", ADD, "1", "2").lines == [f"job {job.pk + 1}: {ADD} enqueued"]


def test_waiting_for_jobs_tells_how_they_ended(store: Store) -> None:
    """0 when all went well, 1 when one did not, 124 when the time is over."""
    run = begin(store)
    fine = claimed(store, run)
    store.finish(run, [success(fine)])
    broken, [open_] = failed(store), put(store)
    assert (Said("wait", fine).code, Said("wait", fine).lines) == (0, [f"job {fine}: successful"])
    said = Said("wait", fine, broken, "--json")
    assert (said.code, said.json) == (1, {str(fine): "successful", str(broken): "failed"})
    said = Said("wait", open_, "--timeout", "0.01")
    assert (said.code, said.error) == (124, "1 job not ended after 0.01 s")


def test_waiting_for_what_a_filter_finds(store: Store) -> None:
    """Without a filter, what was never tried and waits for its time is not waited for."""
    put(store, run_after=store.sql.now() + timedelta(hours=1))
    assert Said("wait").lines == ["all have ended"]
    assert Said("wait", "--task", NOOP, "--timeout", "0.01").code == 124
    put(store, queue="other")
    said = Said("wait", "--timeout", "0.01", "--json")
    assert (said.code, said.json) == (124, {"open": 1, "failed_meanwhile": 0})
