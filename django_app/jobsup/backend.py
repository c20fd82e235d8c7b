"""The backend of `django.tasks`: jobs are rows, an enqueue is one INSERT in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.apps import apps

from jobsup import homes, options
from jobsup.compat import BaseTaskBackend, InvalidTask, TaskResultDoesNotExist, task_enqueued
from jobsup.errors import AlreadyEnqueued
from jobsup.task import JobsupTask
from jobsup.text import bounded, dump
from jobsup.transactions import warn_outside

if TYPE_CHECKING:
    from jobsup.bulk import Jobs
    from jobsup.sql import NewRow
    from jobsup.store import Store

QUEUE_CHARS_MAX = 64
_HEADS_MAX = 256
"""Of how many tasks it is remembered what their jobs have in common; `using` makes a new one each time."""
_PK_MAX = 2**63 - 1
_PK_DIGITS_MAX = len(str(_PK_MAX))


class JobsupBackend(BaseTaskBackend):
    """Stores jobs in the database for `manage.py jobsupervisor` to run."""

    task_class = JobsupTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        """Read the settings."""
        super().__init__(alias, params)
        self._heads: dict[int, tuple[Any, NewRow]] = {}  # by the identity of the task

    @cached_property
    def store(self) -> Store:
        """The jobs; made at the first use, since Django makes backends while modules are still being imported."""
        from jobsup import conf
        from jobsup.store import Store

        settings = conf.load()
        return Store(homes.of(self.alias), crash_attempts=settings.crash_attempts, notify=settings.notify)

    def validate_task(self, task: Any) -> None:
        """Refuse a task that cannot be run.

        Raises:
            InvalidTask: says why.
        """
        if not isinstance(task.run_after, datetime | None):  # Django's check would raise an AttributeError
            raise InvalidTask(
                f"run_after is {task.run_after!r}: expected a datetime, such as timezone.now() + timedelta(minutes=5)."
            )
        super().validate_task(task)
        if len(task.module_path) > 255:
            raise InvalidTask(f"The path of the task is longer than 255 characters: {task.module_path[:80]}...")
        queue = task.queue_name
        if not 0 < len(queue) <= QUEUE_CHARS_MAX or bounded(queue) != queue:
            raise InvalidTask(
                f"queue_name is {queue!r}: expected 1 to {QUEUE_CHARS_MAX} characters, no NUL and no lone surrogates."
            )
        try:
            options.check(task)
        except ValueError as error:
            raise InvalidTask(str(error)) from error

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Insert a job; it exists when the caller's transaction commits and never did if that rolls back.

        A task with the option `unique` may have a job of that key already: then that one's result is returned.

        Raises:
            InvalidTask: the task cannot be run.
            TypeError, ValueError: the arguments cannot be stored as JSON.
            AlreadyEnqueued: there is one of that key, and the task's `on_conflict` is "raise".
        """
        from jobsup.results import new_result
        from jobsup.telling import is_heard
        from jobsup.unique import key_of

        head = self._head(task)
        arguments = dump({"args": args, "kwargs": kwargs}, f"the arguments of {task.module_path}")
        row = head._replace(arguments=arguments)
        warn_outside(task, self.store.alias)
        enqueued_at: datetime | None
        if getattr(task, "unique", None):
            row = row._replace(unique_key=key_of(task, args, kwargs), unique_running=task.unique_while == "running")
        if row.unique_key is None:
            pk, enqueued_at = self.store.enqueue(row)
        else:
            pk, enqueued_at = self.store.enqueue_unique(row, replace=task.on_conflict == "replace")
        if enqueued_at is None:
            found = self.get_result(str(pk))
            if task.on_conflict == "raise":
                raise AlreadyEnqueued(found)
            return found
        result = new_result(task, pk, enqueued_at, arguments)
        if is_heard(task_enqueued):
            task_enqueued.send(type(self), task_result=result)
        return result

    def _head(self, task: Any) -> NewRow:
        """Return what all jobs of a task have in common; a task, which nobody can change, is looked at once.

        Raises:
            InvalidTask: it cannot be run.
        """
        known = self._heads.get(id(task))
        if known is not None and known[0] is task:
            return known[1]
        self.validate_task(task)
        head = self.new_row(task, "")
        if apps.ready:  # else not everything could be looked at
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[id(task)] = task, head
        return head

    def enqueue_many(self, task: Any, calls: Iterable[Any]) -> Jobs:
        """Insert a job for each call of a task; see `JobsupTask.enqueue_many`."""
        from jobsup.bulk import enqueue_many

        warn_outside(task, self.store.alias)
        return enqueue_many(self, task, calls)

    def new_row(self, task: Any, arguments: str) -> NewRow:
        """Return what is inserted for a job of a task.

        Args:
            task: with all its options.
            arguments: JSON, as in `Job`.
        """
        from jobsup.sql import NewRow

        return NewRow(
            task=task.module_path,
            queue=task.queue_name,
            backend=self.alias,
            priority=int(task.priority),
            arguments=arguments,
            run_after=task.run_after,
            max_attempts=getattr(task, "max_attempts", None),
            options=options.text_of(task),
            keep_s=options.keep_s_of(task),
        )

    def get_result(self, result_id: str) -> Any:
        """Return a job's result as it stands.

        Raises:
            TaskResultDoesNotExist: there is no such job, or no such task any more.
        """
        from jobsup.errors import TaskNotFound
        from jobsup.results import result_of, task_of

        pk = pk_of(result_id)
        found = self.store.get(pk) if pk is not None else None
        if found is None:
            raise TaskResultDoesNotExist(result_id)
        row, failures = found
        try:
            return result_of(task_of(row), row, failures)
        except TaskNotFound as error:
            raise TaskResultDoesNotExist(f"{result_id}: {error}") from error

    def cancel(self, result_ids: Iterable[str]) -> list[str]:
        """Cancel jobs; see `JobsupResult.cancel`.

        Args:
            result_ids: their ids; ids of no job are left out.

        Returns:
            Those that are cancelled now or going to be.
        """
        from jobsup.models import Status
        from jobsup.untold import tell_at_commit

        pks = [pk for result_id in result_ids if (pk := pk_of(result_id)) is not None]
        open_or_cancelled = (Status.RUNNING, Status.CANCELLED)
        statuses = self.store.cancel(pks)
        tell_at_commit(self.store, [pk for pk, status in statuses.items() if status is Status.CANCELLED])
        return [str(pk) for pk, status in statuses.items() if status in open_or_cancelled]


def pk_of(result_id: Any) -> int | None:
    """Return the primary key that an id of a result stands for, None if it can be none."""
    text = str(result_id)
    # int() alone would also take " 1", "1_0" and 1.5 for ids.
    pk = int(text) if text.isascii() and text.isdigit() and len(text) <= _PK_DIGITS_MAX else 0
    return pk if 0 < pk <= _PK_MAX else None
