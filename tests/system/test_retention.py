"""Retention with a real supervisor: what ended long ago goes by itself, by the setting and by what its task says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from jobsup.models import FailedAttempt, Job
from tests.support import eventually
from tests.system.jobs import picture
from tests.testapp import tasks

if TYPE_CHECKING:
    from tests.databases import Database

PATIENT_S = 60


def test_what_ended_long_ago_is_removed_while_jobs_run(database: Database) -> None:
    """Without a setting: a week for what was successful, a month for what failed; a task's own time goes first."""
    with database.supervisor("--workers", "1", "--exit-when-empty") as first:
        short = tasks.noop.using(keep=timedelta(0)).enqueue()
        long = tasks.noop.using(keep=timedelta(days=365)).enqueue()
        old, young = tasks.noop.enqueue(), tasks.noop.enqueue()
        failed, failed_long_ago = tasks.fail.enqueue("x"), tasks.fail.enqueue("y")
        assert first.wait(PATIENT_S) == 0
    now = timezone.now()
    Job.objects.filter(pk__in=[long.id, old.id, failed.id]).update(finished_at=now - timedelta(days=8))
    Job.objects.filter(pk=failed_long_ago.id).update(finished_at=now - timedelta(days=31))
    stay = {int(result.id) for result in (long, young, failed)}
    with database.supervisor("--workers", "1") as second:
        eventually(
            lambda: set(Job.objects.values_list("pk", flat=True)) == stay,
            PATIENT_S,
            "the end of what is old",
            lambda: picture(second),
        )
        second.stop()
    assert int(short.id) not in stay
    assert list(FailedAttempt.objects.values_list("job_id", flat=True)) == [int(failed.id)]
