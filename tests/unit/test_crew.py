"""The shell around real worker processes: what it tells of their deaths."""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from spawnpool import events as e
from spawnpool.crew import Crew
from spawnpool.worker import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0


def crashes(*_arguments: Any) -> NoReturn:
    """Be a worker that crashes."""
    os.abort()


def ends_after_a_crash_of_its_child(*_arguments: Any) -> NoReturn:
    """Be a worker that ends by an exit code of its own; a child that it forked has crashed before."""
    child = os.fork()
    if child == 0:
        os.abort()
    os.waitpid(child, 0)
    os._exit(9)


def death_of(runner: Callable[..., Any]) -> e.Died:
    """Spawn a worker with such a runner, and return what is told of its end."""
    answers: deque[Callable[[], e.Event]] = deque()
    with closing(selectors.EpollSelector()) as deaths:
        crew = Crew(WorkerSpec("crew-test", f"{__name__}.{runner.__name__}"), deaths, answers.append)
        assert crew.spawn(e.Spawn(1, 1), ())
        try:
            assert deaths.select(WAIT_S), "it lives"
            crew.check()
            [death] = [event for answer in answers if isinstance(event := answer(), e.Died)]
            return death
        finally:
            crew.end_all(WAIT_S)


@pytest.mark.parametrize(
    ("runner", "code", "told"), [(crashes, -signal.SIGABRT, True), (ends_after_a_crash_of_its_child, 9, False)]
)
def test_m17_a_worker_is_not_told_to_have_been_where_only_its_child_crashed(
    runner: Callable[..., Any], code: int, *, told: bool
) -> None:
    """Both write on the same card; how the worker ended says whether the words can be its own."""
    death = death_of(runner)
    assert (death.code, " in crashes" in death.stack, bool(death.stack)) == (code, told, told)
