"""`jobs torture`: the plan follows from its seed, and the judge sees each promise that is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from jobsup.models import Status
from jobsup.torture.history import Account, History, Hit, JobRow, Remains
from jobsup.torture.judge import judge
from jobsup.torture.plan import BACKOFF_S, FAULTS, KINDS, Plan, orders, strikes
from jobsup.torture.witness import Run, read, witnessed
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from jobsup.torture.judge import Verdict

PLAN = Plan(jobs=500, faults=60, seconds=10, seed=7, workers=2)
OTHER = Plan(jobs=500, faults=60, seconds=10, seed=8, workers=2)
FAILS = "jobsup.torture.tasks.MeantToFailError"
LOST = "jobsup.errors.WorkerLost"
KILLED, SUPERVISOR = 100, 50
GOOD = History(
    acknowledged={1: "short", 2: "failing", 3: "atomic", 4: "long"},
    rows=[
        JobRow(1, "short", Status.SUCCESSFUL, 1, 0, 60, "1"),
        JobRow(2, "failing", Status.FAILED, 1, 0, 1, None),
        JobRow(3, "atomic", Status.SUCCESSFUL, 1, 0, 60, "1"),
        JobRow(4, "long", Status.SUCCESSFUL, 2, 0, 60, "2"),
    ],
    accounts=[Account(2, 1, FAILS, "MeantToFailError: so it is"), Account(4, 1, LOST, "worker 1 was killed")],
    runs=[
        Run(1, 1, 101, SUPERVISOR, 0.0, 0.1),
        Run(2, 1, 101, SUPERVISOR, 0.2, 0.3),
        Run(3, 1, 101, SUPERVISOR, 0.4, 0.5),
        Run(4, 1, KILLED, SUPERVISOR, 1.0),
        Run(4, 2, 101, SUPERVISOR, 2.0 + BACKOFF_S, 3.0),
    ],
    effects={3: 1},
    hits=[Hit("kill-worker", "kill -9 of a worker", KILLED, 1.5, 1.5, wide=False)],
)


def changed(pk: int, **values: Any) -> list[JobRow]:
    """Return the rows with one of them changed."""
    return [row._replace(**values) if row.pk == pk else row for row in GOOD.rows]


BROKEN: dict[str, list[dict[str, Any]]] = {
    "is never lost": [
        {"rows": GOOD.rows[1:], "runs": GOOD.runs[1:]},
        {"rows": changed(1, status=Status.READY)},
        {"rows": changed(1, status=Status.RUNNING)},
    ],
    "rolled back": [{"rows": [*GOOD.rows, JobRow(5, "rolled_back", Status.READY, 0, 0, None, None)]}],
    "ends as its task says": [
        {"rows": changed(1, result="2")},
        {"rows": changed(1, status=Status.FAILED), "accounts": [*GOOD.accounts, Account(1, 1, LOST, "killed")]},
        {"rows": changed(1, status=Status.CANCELLED), "accounts": [*GOOD.accounts, Account(1, 1, LOST, "killed")]},
        {"runs": GOOD.runs[1:]},
    ],
    "takes effect once": [{"effects": {}}, {"effects": {3: 2}}, {"effects": {3: 1, 1: 1}}],
    "runs once": [
        {"runs": [*GOOD.runs, Run(1, 1, 102, SUPERVISOR, 5.0, 5.1)]},
        {"runs": [*GOOD.runs, Run(3, 1, 102, SUPERVISOR, 5.0, 5.1)]},
    ],
    "at a time": [{"runs": [*GOOD.runs[:3], Run(4, 1, KILLED, SUPERVISOR, 1.0, 2.5), GOOD.runs[4]]}],
    "has its reason": [
        {"accounts": GOOD.accounts[1:]},
        {"accounts": GOOD.accounts[:1]},
        {"accounts": [GOOD.accounts[0], GOOD.accounts[1]._replace(reason=" ")]},
    ],
    "than its limit": [{"rows": changed(4, limit=1)}],
    "is left": [{"remains": Remains(**{name: ["one"]})} for name in Remains._fields],
    "by themselves": [{"complaints": ["torture-1 ended"]}],
}


def broken(verdict: Verdict) -> list[str]:
    """Return which promises were not kept."""
    return [promise.words for promise in verdict.promises if promise.broken]


def test_a_good_history_is_found_to_be_one() -> None:
    """Nothing is found where nothing is."""
    verdict = judge(GOOD)
    assert broken(verdict) == []
    assert verdict.held
    assert verdict.jobs["long"] == {"successful": 1}
    assert verdict.causes == {"MeantToFailError": 1, "WorkerLost": 1}


@pytest.mark.parametrize(
    ("words", "change"), [(words, change) for words, changes in BROKEN.items() for change in changes]
)
def test_each_broken_promise_is_seen(words: str, change: dict[str, Any]) -> None:
    """And it is the only one that is said to be broken."""
    found = broken(judge(GOOD._replace(**change)))
    assert len(found) == 1
    assert words in found[0]


def test_every_promise_can_be_broken() -> None:
    """The table above knows them all."""
    assert len(judge(GOOD).promises) == len(BROKEN)


def test_what_was_interrupted_may_leave_jobs_that_wait() -> None:
    """But none that is gone."""
    waiting = GOOD._replace(rows=changed(1, status=Status.READY), interrupted=True)
    assert judge(waiting).held
    assert not judge(waiting._replace(rows=GOOD.rows[1:], runs=GOOD.runs[1:])).held


def test_an_atomic_job_may_run_again_within_its_attempt() -> None:
    """In the same worker: a commit that did not come about has left nothing."""
    assert judge(GOOD._replace(runs=[*GOOD.runs, Run(3, 1, 101, SUPERVISOR, 5.0, 5.1)])).held


def test_a_supervisor_that_was_silent_for_too_long_explains_two_at_a_time() -> None:
    """Its workers went on while another one had taken over."""
    runs = [*GOOD.runs[:3], Run(4, 1, KILLED, SUPERVISOR, 1.0, 2.5), GOOD.runs[4]]
    silent = Hit("silence-supervisor", "", SUPERVISOR, 0.9, 9.0, wide=True)
    assert judge(GOOD._replace(runs=runs, hits=[silent])).held


def test_times_are_measured_from_the_kill_without_the_back_off() -> None:
    """What another fault came in between is counted and not measured."""
    by_worker, by_supervisor = judge(GOOD).recoveries
    assert (by_worker.measured, by_worker.met) == (1, True)
    assert by_worker.p99_s == pytest.approx(0.5)
    assert (by_supervisor.measured, by_supervisor.met) == (0, None)
    frozen = Hit("freeze-supervisor", "", 51, 1.6, 1.7, wide=True)
    by_worker, _ = judge(GOOD._replace(hits=[*GOOD.hits, frozen])).recoveries
    assert (by_worker.measured, by_worker.disturbed) == (0, 1)
    killed = Hit("kill-supervisor", "", SUPERVISOR, 1.5, 1.5, wide=True)
    _, by_supervisor = judge(GOOD._replace(hits=[killed])).recoveries
    assert by_supervisor.measured == 1
    assert by_supervisor.p50_s == pytest.approx(0.5 + BACKOFF_S)


def test_doubles_of_ordinary_jobs_are_counted() -> None:
    """Apart: those of which an earlier run had returned."""
    assert list(judge(GOOD).doubles.values()) == [1, 0]
    returned = [*GOOD.runs[:3], Run(4, 1, KILLED, SUPERVISOR, 1.0, 1.4), GOOD.runs[4]]
    assert list(judge(GOOD._replace(runs=returned)).doubles.values()) == [0, 1]


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_all_choices_follow_from_the_seed() -> None:
    """The same ones again, and others for another seed."""
    assert list(orders(PLAN, KINDS)) == list(orders(PLAN, KINDS)) != list(orders(OTHER, KINDS))
    assert strikes(PLAN, list(FAULTS)) == strikes(PLAN, list(FAULTS)) != strikes(OTHER, list(FAULTS))


def test_every_kind_of_fault_strikes() -> None:
    """As far as they go, in the order of time, and never longer than is said."""
    found = strikes(PLAN, list(FAULTS))
    assert len(found) == PLAN.faults
    assert {strike.kind for strike in found} == set(FAULTS)
    assert [strike.at for strike in found] == sorted(strike.at for strike in found)
    assert all(FAULTS[strike.kind].for_s[0] <= strike.for_s <= FAULTS[strike.kind].for_s[1] for strike in found)
    few = strikes(Plan(jobs=1, faults=2, seconds=1, seed=1, workers=1), list(FAULTS))
    assert {strike.kind for strike in few} == {"kill-worker", "end-session"}


def test_jobs_are_of_every_kind() -> None:
    """Most of them short."""
    counts = Counter(order.kind for order in orders(Plan(jobs=5000, faults=0, seconds=1, seed=1, workers=1), KINDS))
    assert set(counts) == set(KINDS)
    assert counts.most_common(1)[0][0] == "short"


# -- the witness ------------------------------------------------------------------------------------------------------


def test_the_witness_remembers_what_was_killed(tmp_path: Path) -> None:
    """A run that never returned has no end, and one that raised has."""
    file = tmp_path / "witness"
    assert read(file) == []
    with witnessed(file, 1, 1):
        pass
    with pytest.raises(ValueError, match="so"), witnessed(file, 2, 1):
        raise ValueError("so")
    program = (
        "import os, sys; from pathlib import Path; from jobsup.torture.witness import witnessed\n"
        "with witnessed(Path(sys.argv[1]), 3, 4): os.kill(os.getpid(), 9)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(file)], env=env, check=False)
    runs = read(file)
    assert [(run.job, run.attempt, run.returned_s is not None) for run in runs] == [
        (1, 1, True),
        (2, 1, True),
        (3, 4, False),
    ]
    assert runs[2].supervisor == os.getpid()


def test_the_page_names_every_kind_of_job_and_fault() -> None:
    """And the promises."""
    page = (ROOT / "docs" / "torture.md").read_text()
    assert [kind for kind in FAULTS if f"`{kind}`" not in page] == []
    assert [kind for kind in KINDS if kind.replace("_", " ") not in page] == []
    assert [promise.words for promise in judge(GOOD).promises if promise.words not in page] == []
