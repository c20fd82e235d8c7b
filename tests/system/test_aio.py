"""Coroutines through a real supervisor: their loop and what is bound to it live as long as their worker (D8, D9)."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobsup.models import Status
from tests.system.jobs import ON_POSTGRESQL, ON_SQLITE, assert_nobody_owns_anything, row, status, wait_final, words
from tests.testapp import limits, loops

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.databases import Database

WAIT_S = 60
NOISE = ("Task was destroyed", "never retrieved", "never awaited", "ResourceWarning", "was killed")


class Echo(socketserver.StreamRequestHandler):
    """Answers each line with that line, and counts whom it talks to."""

    talks = 0

    def handle(self) -> None:
        """Talk to one client."""
        Echo.talks += 1
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Talks to many."""

    daemon_threads = True


@contextmanager
def echo(place: str) -> Iterator[None]:
    """Provide a server."""
    Echo.talks = 0
    with Server(place, Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def returned(jobs: Iterable[Any]) -> list[Any]:
    """Return what jobs returned."""
    found = []
    for job in jobs:
        job.refresh()
        assert status(job) is Status.SUCCESSFUL, words(job)
        found.append(job.return_value)
    return found


@ON_POSTGRESQL
def test_d8_a_client_that_one_job_made_serves_the_next_and_the_orm_has_the_worker_s_own_session(
    database: Database, tmp_path: Path
) -> None:
    """One connection to the server and one session for each worker, however many coroutines it runs; none leaks."""
    place = str(tmp_path / "echo")
    with echo(place), database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready(WAIT_S)
        asking = [loops.ask.enqueue(place, str(number)) for number in range(40)]
        interrupted = [limits.await_for_ever.using(timeout=0.3).enqueue(str(tmp_path / "end")) for _ in range(2)]
        asking += [loops.ask.enqueue(place, str(number)) for number in range(40, 60)]
        using = [task.enqueue() for _ in range(20) for task in (loops.session_of_coroutine, loops.session_of_function)]
        wait_final(supervisor, [*asking, *interrupted, *using], WAIT_S)
        talks = Echo.talks
        supervisor.stop(timeout_s=WAIT_S)
        log = supervisor.log()
    answers = returned(asking)
    assert [each["answers"] for each in answers] == [[str(number)] * 2 for number in range(60)]
    pids = {each["pid"] for each in answers}
    assert talks == len(pids) <= 2
    assert sum(max(each["asked"] for each in answers if each["pid"] == pid) for pid in pids) == 120
    sessions = returned(using)
    assert all(each["in main thread"] for each in sessions)
    assert len({(each["pid"], each["session"]) for each in sessions}) == len({each["pid"] for each in sessions})
    for job in interrupted:
        assert status(job) is Status.FAILED
        assert words(job)[0].count("jobsup/") == 0, "the job's own frames only"
        assert "JobTimeout: the job has used up its time-out of 0.3 s" in words(job)[0]
    for noise in ("left behind", *NOISE):
        assert noise not in log
    assert_nobody_owns_anything()


@ON_SQLITE
def test_d9_m18_f35_what_a_coroutine_leaves_is_ended_and_told_and_the_next_one_finds_a_loop(database: Database) -> None:
    """The worker goes on; only what cannot be ended costs it its place."""
    first, ways = loops.which_loop.enqueue(), [*loops.RESTORED, "forgotten generator", "stopped", "used thread"]
    spoiling = [(way, loops.leave.enqueue(way), loops.which_loop.enqueue()) for way in ways]
    closing, after = loops.close_loop.enqueue(), loops.which_loop.enqueue()
    lasting = [(way, loops.leave.enqueue(way)) for way in loops.SPOILED]
    last = loops.which_loop.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
        log = supervisor.log()
    [[pid, loop]] = returned([first])
    for way, job, look in spoiling:
        told = f"left behind: {', '.join(loops.RESTORED[way])} (restored)" if way in loops.RESTORED else None
        assert row(job).left_behind == told, way
        [[where, found]] = returned([look])
        assert where == pid, way
        if way != "executor":
            assert found == loop, way
        loop = found
    assert status(closing) is Status.FAILED
    assert "RuntimeError: Cannot close a running event loop" in words(closing)[0]
    assert returned([after]) == [[pid, loop]]
    for way, job in lasting:
        assert row(job).left_behind == f"left behind: {loops.SPOILED[way]} (the worker is replaced)"
    assert len({*returned(job for _, job in lasting), returned([last])[0][0]}) == 3
    for noise in NOISE:
        assert noise not in log
    assert_nobody_owns_anything()


@ON_SQLITE
def test_m10_a_coroutine_that_loses_the_loop_s_descriptors_fails_and_the_next_one_runs(database: Database) -> None:
    """It does not hang, although nothing ever comes back from its loop."""
    losing, after = loops.lose_descriptors.enqueue(), loops.which_loop.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
    assert status(losing) is Status.FAILED
    assert "RuntimeError: the event loop of this worker is broken: OSError" in words(losing)[0]
    assert row(losing).left_behind == "left behind: the event loop (broken: OSError) (restored)"
    returned([after])
