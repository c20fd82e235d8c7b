"""Many jobs at once, run by a real supervisor."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from jobsup.models import Job, Status
from tests.system.jobs import assert_nobody_owns_anything, wait_final
from tests.testapp import tasks

if TYPE_CHECKING:
    from tests.databases import Database

MANY = 3_000


def test_jobs_that_were_enqueued_together_are_each_run_once(database: Database) -> None:
    """Several batches, from a generator, in the caller's transaction, with a running supervisor that is woken."""
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        with transaction.atomic():
            jobs = tasks.add.using(queue_name="slow", keep=timedelta(days=1)).enqueue_many(
                ((number, 1) if number % 2 else {"a": number, "b": 1}) for number in range(MANY)
            )
            later = tasks.add.using(run_after=timezone.now() + timedelta(days=1)).enqueue_many([(1, 1)])
        wait_final(supervisor, [jobs[0], jobs[-1]], timeout_s=60)
        ended = {"queue": "slow", "status": Status.SUCCESSFUL, "attempt": 1, "keep_s": 86_400}
        wait_final(supervisor, jobs, timeout_s=60)
        supervisor.stop()
    assert [job.return_value for job in jobs] == [number + 1 for number in range(MANY)]
    assert Job.objects.filter(**ended).count() == MANY
    assert Job.objects.get(pk=int(later.ids[0])).status == Status.SCHEDULED
    assert_nobody_owns_anything()
