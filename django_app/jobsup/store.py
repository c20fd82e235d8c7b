"""The only writer of jobsup's tables: enqueue, claim, finish, give back, lost, recover.

Every operation of a supervisor or worker commits by itself; `enqueue` joins the caller's transaction. Database errors
go up as Django raises them: the caller knows whether trying again makes sense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple

from django.db import router, transaction
from django.db.models import Case, F, Q, QuerySet, SmallIntegerField, When
from django.db.models.functions import Coalesce
from django.utils.module_loading import import_string

from jobsup import spoiled, unique
from jobsup.judge import Judge
from jobsup.models import FailedAttempt, Job, Status
from jobsup.sql import Finished, FinishRow, LoadedRow, NewRow, statements
from jobsup.text import TRACEBACK_CHARS_MAX, bounded
from jobsup.verdicts import Verdict

WORKER_LOST = "jobsup.errors.WorkerLost"
AGAIN = (Status.READY, Status.SCHEDULED)
_STATUS = SmallIntegerField()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed: an exception's class path and traceback, or a sentence instead of the latter.

    Whatever it is made of, it is text that fits its columns.
    """

    exception_class_path: str
    traceback: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "exception_class_path", bounded(self.exception_class_path)[:255])
        object.__setattr__(self, "traceback", bounded(self.traceback, TRACEBACK_CHARS_MAX + 100))


class Outcome(NamedTuple):
    """The end of one attempt, as `FinishRow` has it, with the failure if it was one."""

    row: FinishRow
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt whose worker ended; `worker` and `ran_s` as far as they are known.

    `words` are for the record; `{job}` in them stands for the job's name, number of attempt and all. `exception` is the
    class that stands for the cause; with `by_a_limit` the job is judged as if it had raised that.
    """

    pk: int
    worker: str
    words: str
    ran_s: float | None
    at_once: bool
    exception: str = WORKER_LOST
    by_a_limit: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """What became of a lost attempt."""

    pk: int
    task: str
    attempt: int
    attempts_max: int
    status: Status

    def __str__(self) -> str:
        return f"job {self.pk} {self.task}, attempt {self.attempt} of {self.attempts_max}"


class Store:
    """The jobs in one database.

    Args:
        alias: of the database; where the router puts jobsup's tables if it is not given.
        crash_attempts: the limit of attempts for tasks that declare none; see `Conf`.
        notify: whether supervisors are woken, where the database can do that.
    """

    def __init__(self, alias: str | None = None, *, crash_attempts: int = 5, notify: bool = True) -> None:
        self.alias = alias or router.db_for_write(Job)
        self.sql = statements(self.alias)
        self._judge, self.notify = Judge(crash_attempts), notify

    # ---- for callers

    def enqueue(self, row: NewRow) -> tuple[int, datetime]:
        """Insert a job in the caller's transaction; return its id and when it was enqueued."""
        new = self.sql.insert(row, notify=self.notify)
        assert new is not None, "only a job with a unique key may find its place taken"
        return new

    def enqueue_unique(self, row: NewRow, *, replace: bool) -> tuple[int, datetime | None]:
        """Insert a job unless another one has its unique key; see `unique.insert`."""
        return unique.insert(self.sql, row, replace=replace, notify=self.notify)

    def enqueue_many(
        self,
        head: NewRow,
        batches: Iterable[Sequence[str]],
        inserted: Callable[[Sequence[str], Sequence[int], datetime], None],
    ) -> None:
        """Insert jobs that differ in their arguments only, in the caller's transaction or one of its own.

        Args:
            head: what they have in common.
            batches: their arguments as JSON; read as they are written.
            inserted: told the arguments of each batch, their ids in the same order, and when they were enqueued.
        """
        with transaction.atomic(using=self.alias):
            some = False
            for batch in batches:
                inserted(batch, *self.sql.insert_many(head, batch))
                some = True
            if some:
                self._wake()

    def get(self, pk: int) -> tuple[LoadedRow, list[FailedAttempt]] | None:
        """Return a job and its failed attempts in order, None if there is no such job."""
        found = self.get_many([pk])
        return found[0] if found else None

    def get_many(self, pks: Sequence[int]) -> list[tuple[LoadedRow, list[FailedAttempt]]]:
        """Return those of these jobs that exist, each with its failed attempts in order."""
        rows = self.sql.load(pks)
        failures: dict[int, list[FailedAttempt]] = {row.id: [] for row in rows}
        # A first attempt that has not failed can have none: the usual case costs one query.
        if troubled := [
            row.id for row in rows if row.attempt > 1 or row.status not in (Status.SUCCESSFUL, Status.RUNNING)
        ]:
            for failure in FailedAttempt.objects.using(self.alias).filter(job_id__in=troubled).order_by("attempt"):
                failures[failure.job_id].append(failure)
        return [(row, failures[row.id]) for row in rows]

    def cancel(self, pks: Sequence[int]) -> dict[int, Status]:
        """Cancel jobs: at once what no supervisor has, and for the rest ask its supervisor; joins the transaction.

        Returns:
            The status of each of them that exists: CANCELLED, RUNNING where it was asked for, or how it had ended.
        """
        now = self.sql.now()
        jobs = Job.objects.using(self.alias).filter(pk__in=pks)
        nobody_has_it = Q(status__in=AGAIN)
        ask = partial(
            jobs.filter(status__in=(*AGAIN, Status.RUNNING)).update,
            cancel_asked_at=Coalesce(F("cancel_asked_at"), now),
            finished_at=Case(When(nobody_has_it, then=now), default=F("finished_at")),
            untold=Case(When(nobody_has_it, then=True), default=F("untold")),
            # At last: on MariaDB an assignment sees what those before it have assigned.
            status=Case(When(nobody_has_it, then=Status.CANCELLED), default=F("status"), output_field=_STATUS),
        )
        asked = self.sql.insisting(ask)
        statuses = self.statuses(pks)
        if asked and self.notify:
            if Status.CANCELLED in statuses.values():
                self.sql.tell_waiters(pks)
            if Status.RUNNING in statuses.values():
                self.sql.notify("cancel")
        return statuses

    def note_awaited(self, pk: int) -> None:
        """Have those who wait for a job be told what becomes of it."""
        jobs = Job.objects.using(self.alias).filter(pk=pk, awaited=False, status__lt=Status.SUCCESSFUL)
        self.sql.insisting(lambda: jobs.update(awaited=True))

    def note_ready(self, row: LoadedRow, message: str | None) -> None:
        """Write down that a job says it has begun well; of nobody's attempt but this one."""
        now = self.sql.now()
        jobs = Job.objects.using(self.alias).filter(
            pk=row.id, attempt=row.attempt, claimed_by=row.claimed_by, status=Status.RUNNING
        )
        noted = partial(
            jobs.update,
            ready_at=now,
            ready_message=message,
            worker=row.worker,
            started_at=Coalesce(F("started_at"), now),
            last_attempted_at=now,
        )
        if self.sql.insisting(noted):
            self.sql.tell_waiters([row.id])

    def statuses(self, pks: Sequence[int]) -> dict[int, Status]:
        """Return the status of each of these jobs that exists."""
        jobs = Job.objects.using(self.alias).filter(pk__in=pks)
        return {pk: Status(status) for pk, status in jobs.values_list("pk", "status") if status in Status.values}

    # ---- for supervisors

    def beat(self, run: int, state: str) -> bool:
        """Note that a run lives; False if somebody declared it lost meanwhile."""
        return self.sql.beat(run, state)

    def claim(self, run: int, queues: Sequence[str] | None, limit: int) -> list[int]:
        """Claim up to `limit` ready jobs for a run, the most urgent first; their attempt counts from now on."""
        return self.sql.claim(run, queues, limit)

    def claimed_by(self, run: int) -> set[int]:
        """Return the jobs that a run owns."""
        jobs = Job.objects.using(self.alias).filter(claimed_by=run, status=Status.RUNNING)
        return set(jobs.values_list("pk", flat=True))

    def release(self, run: int, pks: Sequence[int]) -> None:
        """Give back jobs that were claimed and never started; their attempt is not counted."""
        jobs = Job.objects.using(self.alias).filter(pk__in=pks, claimed_by=run, status=Status.RUNNING)
        asked = Q(cancel_asked_at__isnull=False)
        released = partial(
            jobs.update,
            finished_at=Case(When(asked, then=F("cancel_asked_at")), default=None),
            status=Case(When(asked, then=Status.CANCELLED), default=Status.READY, output_field=_STATUS),
            claimed_by=None,
            untold=Case(When(asked, then=True), default=False),
            attempt=F("attempt") - 1,
        )
        if unique.giving_way(self.alias, pks, partial(self.sql.insisting, released)):
            self._wake()
            self.sql.put_back(pks)
            self.sql.tell_waiters(pks)  # one that was to be cancelled has ended by this

    def mark_running(self, run: int, pk: int, worker: str, for_s: float) -> None:
        """Show a job as running, and by whom."""
        self.sql.mark(run, pk, worker, for_s)

    def lost(self, run: int, attempts: Iterable[LostAttempt]) -> list[Account]:
        """Account for attempts whose worker ended; those that this run does not own any more are left out."""
        given = list(attempts)
        try:
            return self.sql.together(lambda: self._lost(run, given))
        except spoiled.UNREADABLE:
            if len(given) > 1:
                return [account for attempt in given for account in self.lost(run, [attempt])]
        ended = [attempt.pk for attempt in given if spoiled.end(self.alias, attempt.pk, run, self.sql.now())]
        return [Account(pk, "whose row cannot be read", 1, 1, Status.FAILED) for pk in ended]

    def _lost(self, run: int, attempts: Iterable[LostAttempt]) -> list[Account]:
        lost = {attempt.pk: attempt for attempt in attempts}
        accounts, outcomes = [], []
        jobs = Job.objects.using(self.alias).filter(pk__in=list(lost), claimed_by=run, status=Status.RUNNING)
        for job in jobs if self._locked(jobs) else ():
            attempt = lost[job.pk]
            verdict = self._verdict(job, attempt)
            worker = job.worker or attempt.worker
            row = FinishRow(
                job.pk, job.attempt, verdict.status, None, worker, attempt.ran_s, 0.0, verdict.delay_s,
                untold=verdict.status not in AGAIN,
            )  # fmt: skip
            counted = job.attempt - job.uncounted
            account = Account(job.pk, job.task, counted, self._judge.limit(job), verdict.status)
            accounts.append(account)
            outcomes.append(Outcome(row, Failure(attempt.exception, attempt.words.replace("{job}", str(account), 1))))
        if outcomes:
            self.finish(run, outcomes)
        return accounts

    def _verdict(self, job: Job, attempt: LostAttempt) -> Verdict:
        if job.cancel_asked_at is not None:
            return Verdict(Status.CANCELLED)
        kind = import_string(attempt.exception)
        return self._judge.lost(job, kind, by_a_limit=attempt.by_a_limit, at_once=attempt.at_once)

    def cancel_asked(self, run: int) -> list[int]:
        """Return the jobs of a run whose cancellation was asked for."""
        jobs = Job.objects.using(self.alias).filter(status=Status.RUNNING, claimed_by=run)
        return list(jobs.filter(cancel_asked_at__isnull=False).values_list("pk", flat=True))

    def backlog(self, queues: Sequence[str] | None, most: int) -> int:
        """Return how many jobs are ready, counting up to `most`."""
        jobs = Job.objects.using(self.alias).filter(status=Status.READY)
        if queues is not None:
            jobs = jobs.filter(queue__in=queues)
        return jobs[:most].count()

    def is_empty(self, queues: Sequence[str] | None) -> bool:
        """Tell whether nothing is ready, due, running or waiting to be tried again in these queues."""
        jobs = Job.objects.using(self.alias)
        if queues is not None:
            jobs = jobs.filter(queue__in=queues)
        open_jobs = (
            jobs.filter(status=Status.READY),
            jobs.filter(status=Status.RUNNING),
            jobs.filter(status=Status.SCHEDULED, attempt__gt=0),
            jobs.filter(status=Status.SCHEDULED, run_after__lte=self.sql.now()),
        )
        return not any(some.exists() for some in open_jobs)

    # ---- for workers

    def finish(self, run: int, outcomes: Sequence[Outcome]) -> set[int]:
        """Record the ends of attempts in one commit; return the jobs whose record was accepted.

        An attempt that the run does not own any more is refused: somebody else accounts for that job.
        """
        back = [outcome.row.pk for outcome in outcomes if outcome.row.status in AGAIN]
        accepted = unique.giving_way(self.alias, back, partial(self._finish, run, outcomes))
        if back or any(outcome.row.untold for outcome in outcomes):
            self._wake()
            self.sql.put_back(back)
        return accepted

    def finish_within(self, run: int, row: FinishRow, *, last: bool) -> bool:
        """Record a success in the caller's transaction; False if the run does not own that attempt any more.

        Args:
            run: whose the job is.
            row: the end of the attempt.
            last: whether nothing but the COMMIT comes after it.
        """
        return self.sql.finish_last(run, row) if last else bool(self.sql.finish(run, [row]))

    def was_committed(self, run: int, pk: int, attempt: int) -> bool | None:
        """Tell whether the success of an attempt was committed; None if the attempt is the run's no more.

        Waits for a commit that is under way.
        """
        attempts = Job.objects.using(self.alias).filter(pk=pk, claimed_by=run, attempt=attempt)

        def committed() -> bool | None:
            if self._locked(attempts.filter(status=Status.RUNNING)):
                return False
            return attempts.filter(status=Status.SUCCESSFUL).exists() or None

        return self.sql.together(committed)

    def note_left_behind(self, run: int, pk: int, attempt: int, words: str) -> None:
        """Write down what a job, whose end is recorded, left to the next one."""
        jobs = Job.objects.using(self.alias).filter(pk=pk, claimed_by=run, attempt=attempt)
        self.sql.insisting(lambda: jobs.update(left_behind=words))

    def _finish(self, run: int, outcomes: Sequence[Outcome]) -> set[int]:
        rows = [outcome.row for outcome in outcomes]
        failures = {outcome.row.pk: outcome for outcome in outcomes if outcome.failure is not None}
        if not failures:
            return self._accepted(run, rows, self.sql.finish(run, rows))

        def ended() -> Sequence[Finished]:
            accepted = self.sql.finish(run, rows)
            FailedAttempt.objects.using(self.alias).bulk_create(
                [_account(finished, failures[finished.pk]) for finished in accepted if finished.pk in failures],
                # A job that somebody put back by hand counts its attempts anew: the newest account stands.
                update_conflicts=True,
                unique_fields=["job", "attempt"] if self.sql.names_conflicts else None,
                update_fields=["worker", "started_at", "ended_at", "exception_class_path", "traceback"],
            )
            return accepted

        return self._accepted(run, rows, self.sql.together(ended))

    def _accepted(self, run: int, rows: Sequence[FinishRow], finished: Sequence[Finished]) -> set[int]:
        """Return the jobs whose end stands: written now, or before by a commit whose answer was lost.

        Of those that the statement did not name the rows tell.
        """
        accepted = {end.pk for end in finished}
        ends = {(row.pk, row.attempt, int(row.status), row.result) for row in rows if row.pk not in accepted}
        # What would be tried again is cancelled instead if that was asked for.
        ends |= {
            (pk, attempt, int(Status.CANCELLED), result) for pk, attempt, status, result in ends if status in AGAIN
        }
        if ends:
            own = Job.objects.using(self.alias).filter(pk__in=[end[0] for end in ends], claimed_by=run)
            accepted |= {end[0] for end in own.values_list("pk", "attempt", "status", "result") if end in ends}
        return accepted

    def _wake(self) -> None:
        if self.notify:
            self.sql.notify()

    def _locked(self, jobs: QuerySet[Job]) -> bool:
        """Lock rows by a write that changes nothing: the same on every vendor, and SQLite must begin with a write."""
        return jobs.update(status=Status.RUNNING) > 0


def _account(finished: Finished, outcome: Outcome) -> FailedAttempt:
    """Return the account of a failed attempt."""
    assert outcome.failure is not None
    assert finished.ended_at is not None, "only a success goes without"
    return FailedAttempt(
        job_id=finished.pk,
        attempt=outcome.row.attempt,
        worker=outcome.row.worker,
        started_at=finished.started_at,
        ended_at=finished.ended_at,
        exception_class_path=outcome.failure.exception_class_path,
        traceback=outcome.failure.traceback,
    )
