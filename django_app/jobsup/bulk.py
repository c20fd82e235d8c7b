"""Many jobs of one task at once: streamed into the database in the caller's transaction, all or nothing."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from django.db import transaction

from jobsup.compat import TaskResultDoesNotExist, task_enqueued
from jobsup.results import new_result, result_of, task_of
from jobsup.telling import is_heard
from jobsup.text import PAYLOAD_BYTES_MAX, dump, encode

if TYPE_CHECKING:
    from jobsup.backend import JobsupBackend

ROWS_MAX = 5_000
CHARS_MAX = 4 << 20
"""How many jobs, and how much of their arguments, are in memory and in one statement at a time."""
LOADED_TOGETHER = 500
"""How many results are loaded by one statement."""

_PLAIN = frozenset((str, int, float, bool, type(None)))


class Jobs(Sequence[Any]):
    """The results of jobs that were enqueued together, in order; each is loaded when it is looked at.

    Args:
        backend: where they are.
        pks: their primary keys, eight bytes each.
    """

    def __init__(self, backend: JobsupBackend, pks: array[int]) -> None:
        self._backend, self._pks = backend, pks

    @property
    def ids(self) -> list[str]:
        """Return the ids of the results."""
        return [str(pk) for pk in self._pks]

    def __len__(self) -> int:
        return len(self._pks)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Jobs: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Jobs(self._backend, self._pks[index])
        return self._backend.get_result(str(self._pks[index]))

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self._pks), LOADED_TOGETHER):
            pks = self._pks[start : start + LOADED_TOGETHER]
            found = {row.id: (row, failures) for row, failures in self._backend.store.get_many(pks)}
            for pk in pks:
                if pk not in found:
                    raise TaskResultDoesNotExist(str(pk))
                row, failures = found[pk]
                yield result_of(task_of(row), row, failures)

    def __repr__(self) -> str:
        return f"<{len(self)} jobs>"


def enqueue_many(backend: JobsupBackend, task: Any, calls: Iterable[Any]) -> Jobs:
    """Insert a job for each call of a task; see `JobsupTask.enqueue_many`.

    Args:
        backend: of the task.
        task: with its options, which are those of every job.
        calls: for each job a tuple of arguments by position, or a dict of arguments by name.
    """
    backend.validate_task(task)
    pks = array("q")
    listening = is_heard(task_enqueued)

    def inserted(batch: Sequence[str], new: Sequence[int], enqueued_at: datetime) -> None:
        pks.extend(new)
        if listening:
            for pk, arguments in zip(new, batch, strict=True):
                result = new_result(task, pk, enqueued_at, arguments)
                task_enqueued.send(type(backend), task_result=result)

    if getattr(task, "unique", None):
        with transaction.atomic(using=backend.store.alias):
            pks.extend(_one_by_one(backend, task, calls))
    else:
        backend.store.enqueue_many(backend.new_row(task, ""), _batches(task.module_path, calls), inserted)
    return Jobs(backend, pks)


def _one_by_one(backend: JobsupBackend, task: Any, calls: Iterable[Any]) -> Iterator[int]:
    """Enqueue unique jobs: COPY knows nothing of conflicts."""
    for index, call in enumerate(calls):
        _arguments(task.module_path, index, call)
        args, kwargs = ((), call) if isinstance(call, dict) else (call, {})
        yield int(backend.enqueue(task, args, kwargs).id)


def _batches(path: str, calls: Iterable[Any]) -> Iterator[list[str]]:
    """Yield the arguments of jobs as JSON, as many at a time as may be in memory."""
    batch: list[str] = []
    chars = 0
    for index, call in enumerate(calls):
        text = _arguments(path, index, call)
        batch.append(text)
        chars += len(text)
        if len(batch) == ROWS_MAX or chars >= CHARS_MAX:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _arguments(path: str, index: int, call: Any) -> str:
    """Return the arguments of one job as JSON.

    Raises:
        TypeError, ValueError: they cannot be stored, or it is neither a tuple nor a dict; names the item.
    """
    what = f"item {index} for {path}"
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    if isinstance(call, tuple):
        args = call
    elif isinstance(call, dict):
        if not all(isinstance(name, str) for name in call):
            raise TypeError(f"{what}: the keys of a dict are names of arguments, which are texts")
        kwargs = call
    else:
        raise TypeError(
            f"{what} is a {type(call).__name__}: expected a tuple of arguments by position, (value,) for a single one, "
            "or a dict of arguments by name"
        )
    # What JSON knows as it is need not be walked through: that doubles the pace.
    if _PLAIN.issuperset(map(type, args)) and _PLAIN.issuperset(map(type, kwargs.values())):
        try:
            text = f'{{"args":{encode(args)},"kwargs":{encode(kwargs)}}}'
        except ValueError:
            text = ""  # told below
        if 0 < len(text) <= PAYLOAD_BYTES_MAX:
            return text
    return dump({"args": args, "kwargs": kwargs}, what)
