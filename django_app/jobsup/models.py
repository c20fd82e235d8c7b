"""The tables: jobs, the failed attempts of some of them, and the runs of supervisors.

Only `jobsup.store` writes to them. Statuses are small integers and stand as literals in the conditions of the partial
indexes, so that the same literals in a statement let the planner use them.
"""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models


class Status(models.IntegerChoices):
    """Where a job is in its life."""

    READY = 0, "ready"  # waits for a worker
    SCHEDULED = 1, "scheduled"  # waits for its time; shown to django.tasks as READY
    RUNNING = 2, "running"  # belongs to a supervisor's run; `worker` is set once it is known to have started
    SUCCESSFUL = 3, "successful"
    FAILED = 4, "failed"
    CANCELLED = 5, "cancelled"  # shown to django.tasks as FAILED


class Conditional(models.Model):
    """A table with partial indexes.

    Where a database has none, Django warns that their conditions are left out; a migration of ours makes others there
    that do the same.
    """

    class Meta:
        abstract = True

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Look for what is wrong with the model, as Django does."""
        return [message for message in super().check(**kwargs) if message.id not in ("models.W036", "models.W037")]


def label_of(status: int) -> str:
    """Return the word for a status, also for one that there is not: somebody has changed that row by hand."""
    return Status(status).label if status in Status.values else f"status {status}"


class Job(Conditional):
    """One call of a task: enqueued, claimed by a supervisor, run by a worker, finished."""

    id = models.BigAutoField(primary_key=True)
    task = models.CharField(max_length=255)
    """Dotted path of the task."""
    queue = models.CharField(max_length=64)
    backend = models.CharField(max_length=64)
    """Alias in the TASKS setting."""
    priority = models.SmallIntegerField(default=0)
    status = models.SmallIntegerField(choices=Status, default=Status.READY)
    arguments = models.TextField()
    """JSON, {"args": [...], "kwargs": {...}}. Text, since jsonb refuses NUL and lone surrogates and reorders keys."""
    run_after = models.DateTimeField(null=True)
    max_attempts = models.SmallIntegerField(null=True)
    options = models.TextField(null=True)  # noqa: DJ001  # NULL: there are none
    """JSON of the options that the job has beyond those of `django.tasks`; see `jobsup.options`."""
    attempt = models.SmallIntegerField(default=0)
    """Number of the present or latest attempt; counted up by the claim, down again when it was never started."""
    uncounted = models.SmallIntegerField(default=0, db_default=0)
    """How many attempts do not count against the limit: snoozes, and all before somebody had it tried anew."""
    claimed_by = models.BigIntegerField(null=True)
    """Id of the `Supervisor` row; stays after the finish. No foreign key: its check would double the claim's cost."""
    worker = models.CharField(max_length=160, default="")
    """Who runs or ran the present attempt; empty until that is known."""
    enqueued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    """When the first attempt began."""
    last_attempted_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_asked_at = models.DateTimeField(null=True)
    """When its cancellation was asked for; while it is RUNNING its supervisor sees to that."""
    left_behind = models.TextField(null=True)  # noqa: DJ001  # NULL: nothing
    """What the job left to the next one in its worker, in words."""
    keep_s = models.BigIntegerField(null=True)
    """For how long it is kept once it has ended; NULL: as long as the setting says."""
    unique_key = models.CharField(max_length=255, null=True)  # noqa: DJ001  # NULL: may be enqueued as often as you like
    """What no second waiting job may have."""
    unique_running = models.BooleanField(default=False, db_default=False)
    """Nor may one while this one runs."""
    ready_at = models.DateTimeField(null=True)
    """When the job itself said that it has begun well."""
    ready_message = models.TextField(null=True)  # noqa: DJ001  # NULL: it did not
    awaited = models.BooleanField(default=False, db_default=False)
    """Somebody waits for it: what becomes of it is notified."""
    untold = models.BooleanField(default=False, db_default=False)
    """It was ended by no worker's hand, and `task_finished` is still to be sent."""
    schedule = models.CharField(max_length=200, null=True)  # noqa: DJ001  # NULL: it was enqueued by hand
    """Name of the schedule that enqueued it."""
    tick_at = models.DateTimeField(null=True)
    """For which moment of that schedule."""
    result = models.TextField(null=True)  # noqa: DJ001  # NULL: there is none; "null" is the result None as JSON

    class Meta:
        indexes = [
            # The claim: equality on the queue, then the order of the work, so it reads just the rows it takes.
            models.Index(fields=["queue", "-priority", "id"], condition=models.Q(status=0), name="jobsup_job_ready"),
            # What has come due, and when the next one will.
            models.Index(fields=["run_after"], condition=models.Q(status=1), name="jobsup_job_due"),
            # What a dead run of a supervisor left behind; as small as the number of claimed jobs.
            models.Index(fields=["claimed_by"], condition=models.Q(status=2), name="jobsup_job_claimed"),
            models.Index(fields=["claimed_by"], condition=models.Q(untold=True), name="jobsup_job_untold"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["unique_key"],
                condition=models.Q(status__in=(0, 1), unique_key__isnull=False),
                name="jobsup_unique_waiting",
            ),
            models.UniqueConstraint(
                fields=["unique_key"],
                condition=models.Q(status__in=(0, 1, 2), unique_key__isnull=False, unique_running=True),
                name="jobsup_unique_running",
            ),
            # Each moment of a schedule once, however many supervisors look at it.
            models.UniqueConstraint(
                fields=["schedule", "tick_at"], condition=models.Q(schedule__isnull=False), name="jobsup_tick_once"
            ),
        ]

    def __str__(self) -> str:
        return f"job {self.pk} {self.task}"


class FailedAttempt(models.Model):
    """An attempt that did not succeed: the exception that it raised, or how its worker ended."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="failed_attempts")
    attempt = models.SmallIntegerField()
    worker = models.CharField(max_length=160)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()
    exception_class_path = models.CharField(max_length=255)
    traceback = models.TextField()
    """The traceback, or one sentence where there is none."""

    class Meta:
        constraints = [
            # One account for each attempt, whoever gives it.
            models.UniqueConstraint(fields=["job", "attempt"], name="jobsup_failed_once"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.attempt} of job {self.job_id}"


class Queue(models.Model):
    """What is said of a queue while it is in use; a queue without a row here is like any other."""

    name = models.CharField(max_length=64, primary_key=True)
    paused_at = models.DateTimeField(null=True)
    """Since when nobody takes jobs from it; NULL: it is served."""

    def __str__(self) -> str:
        return f"queue {self.name}"


class Schedule(Conditional):
    """A task that is enqueued again and again: declared beside the task, or made in the admin."""

    name = models.CharField(max_length=200, primary_key=True)
    task = models.CharField(max_length=255)
    """Dotted path of the task."""
    arguments = models.TextField(default='{"args":[],"kwargs":{}}')
    """JSON, as in `Job`."""
    cron = models.CharField(max_length=100, blank=True, default="")
    """Cron expression; empty where there is an interval."""
    interval_s = models.PositiveIntegerField("interval", null=True, blank=True)
    """Seconds from one moment to the next; NULL where there is a cron expression."""
    timezone = models.CharField(max_length=64, blank=True, default="")
    """Name of the time zone that the cron expression means; empty: TIME_ZONE."""
    catch_up = models.CharField(max_length=8, default="latest")
    """What is made up for after a time without supervisors: "latest", "all" (bounded) or "none"."""
    job = models.TextField(null=True, editable=False)  # noqa: DJ001  # NULL: no worker has seen to it yet
    """What is inserted for each moment, as JSON of a `sql.NewRow`: supervisors do not import tasks."""
    enabled = models.BooleanField(default=True)
    from_code = models.BooleanField(default=False, editable=False)
    """It is declared beside its task; the row follows the code."""
    next_at = models.DateTimeField(null=True, editable=False)
    """The next moment; NULL until a supervisor has looked at it."""
    last_at = models.DateTimeField(null=True, editable=False)
    """The latest moment that was enqueued or left out."""

    class Meta:
        indexes = [models.Index(fields=["next_at"], condition=models.Q(enabled=True), name="jobsup_schedule_next")]

    def __str__(self) -> str:
        return f"schedule {self.name}"


class Supervisor(Conditional):
    """One run of a supervisor, from its start to its end; its id is what it claims jobs with."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=64)
    node = models.CharField(max_length=64)
    """The machine."""
    runfile = models.CharField(max_length=32)
    """Identity of the run file: a later holder of the same file knows that this run is over."""
    pid = models.IntegerField()
    state = models.CharField(max_length=16)
    """As in `spawnpool.states.SupervisorState`; "lost" for a run that somebody else declared over."""
    lease_s = models.FloatField()
    """How old the beat may become, in seconds; on the row, so that runs with other settings judge it rightly."""
    protocol = models.SmallIntegerField(db_default=1)
    """By which rules it shares the tables with others; see `runs.PROTOCOL`. 1: the version without this column."""
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()

    class Meta:
        indexes = [
            # The runs that are not over: what a beat looks through, however many runs there have been.
            models.Index(
                fields=["beat_at"], condition=~models.Q(state__in=("stopped", "lost")), name="jobsup_supervisor_live"
            ),
        ]

    def __str__(self) -> str:
        return f"supervisor {self.name} on {self.node} (run {self.pk})"
