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


def events_of(
    runner: Callable[..., Any], *keys: int, while_dead: Callable[[Crew], object] = lambda _: None
) -> list[e.Event]:
    """Spawn a worker with such a runner, wait for its end, and return what is told of it.

    Args:
        runner: its factory.
        keys: sent to it.
        while_dead: done once it is collected, before anything is told.
    """
    answers: deque[Callable[[], e.Event]] = deque()
    with closing(selectors.EpollSelector()) as deaths:
        crew = Crew(WorkerSpec("crew-test", f"{__name__}.{runner.__name__}"), deaths, answers)
        assert crew.spawn(e.Spawn(1, 1), ())
        try:
            crew.send(e.Send(1, 0, keys))
            assert deaths.select(WAIT_S), "it lives"
            crew.check()
            while_dead(crew)
            return [answer() for answer in answers]
        finally:
            crew.end_all(WAIT_S)


@pytest.mark.parametrize(
    ("runner", "code", "told"), [(crashes, -signal.SIGABRT, True), (ends_after_a_crash_of_its_child, 9, False)]
)
def test_m17_a_worker_is_not_told_to_have_been_where_only_its_child_crashed(
    runner: Callable[..., Any], code: int, *, told: bool
) -> None:
    """Both write on the same card; how the worker ended says whether the words can be its own."""
    [death] = [event for event in events_of(runner) if isinstance(event, e.Died)]
    assert (death.code, " in crashes" in death.stack, bool(death.stack)) == (code, told, told)


def test_keys_that_were_taken_back_are_told_before_all_that_waits() -> None:
    """As the last words of a worker may have it done: its end counts the permits that are left."""
    found = events_of(crashes, 1, 2, while_dead=lambda crew: crew.take_back(e.TakeBack(1, 2)))
    assert found[0] == e.TakenBack(1, 2)
    assert [event.unstarted for event in found if isinstance(event, e.Died)] == [0]
