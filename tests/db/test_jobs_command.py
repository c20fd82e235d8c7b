"""`manage.py jobs`: wrong usage, and what the actions print that only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobsup.cli.actions import ACTIONS
from jobsup.cli.filters import age
from jobsup.models import Job
from jobsup.store import Store
from tests.db.rows import NOOP, WORKER, begin, claimed, loss, put
from tests.db.said import ADD, Said, failed

if TYPE_CHECKING:
    pass


@pytest.fixture
def store(routed: str) -> Store:
    """The store to which everything goes."""
    return Store(routed)


# -- all of them ------------------------------------------------------------------------------------------------------


def test_every_action_has_its_help() -> None:
    """And a name of its own."""
    names = [action.name for action in ACTIONS]
    assert len(set(names)) == len(names) == 15
    assert all(action.help and not action.help.endswith(".") for action in ACTIONS)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nothing",), "invalid choice: 'nothing'"),
        (("list", "x"), "argument ID: 'x' is no id of a job: expected a number"),
        (("schedules", "--next", "999999999"), "argument --next: 999999999 is too many: at most 1000"),
        (
            ("list", "--older", "5 minutes"),
            "argument --older: '5 minutes' is no age: expected such as 90s, 5m, 2h, 3d or 1w",
        ),
        (("list", "--older", "-5m"), "argument --older"),
        (("list", "--task", "a\udcff"), "argument --task: 'a\\udcff' is no UTF-8"),
        (("list", "--queue", "a\udcff"), "argument --queue: 'a\\udcff' is no UTF-8"),
        (("list", "--error", "a\udcff"), "argument --error: 'a\\udcff' is no UTF-8"),
        (("pause", "a\udcff"), "argument QUEUE: 'a\\udcff' is no UTF-8"),
        (("run", ADD, "1", "2", "--after", "999999999w"), "--after: no calendar goes as far as that"),
        (("list", "--limit", "0"), "argument --limit: invalid count value: '0'"),
        (("list", "--status", "lost"), "argument --status: invalid choice: 'lost'"),
        (("priority", "101", "1"), "argument PRIORITY: invalid priority value: '101'"),
        (("run", ADD, "--priority", "-101"), "argument --priority: invalid priority value: '-101'"),
        (("list", "--older", "2h", "--newer", "1h"), "--older is more than --newer: no job is both"),
        (("cancel",), "cancel needs ids or a filter, such as --queue NAME; to mean all, say their --status"),
        (("retry", "--limit", "5"), "retry needs ids or a filter"),
        (("priority", "5"), "priority needs ids or a filter"),
        (("resume",), "resume needs the names of queues, or --all"),
        (("resume", "a", "--all"), "resume needs the names of queues, or --all"),
        (("pause", "x" * 65), "is no name of a queue: expected 1 to 64 characters"),
        (("prune", "--status", "ready"), "only jobs that have ended are removed: leave out --status ready"),
        (("run", ADD, "--timeout", "1"), "--timeout is for --wait: leave it out, or add --wait"),
        (("run", "no.such.task"), "no task no.such.task: workers import no module no.such"),
        (("run", ADD, "1"), f"{ADD}: missing a required argument: 'b'"),
        (("run", ADD, "1", "2", "a=3"), f"{ADD}: multiple values for argument 'a'"),
        (("run", ADD, "a=1", "a=2"), f"{ADD}: a is given twice"),
        (("run", ADD, "1", "2", "--queue", "nowhere"), f"{ADD}: Queue 'nowhere' is not valid for backend."),
        (("show", "12345"), "there is no job 12345"),
        (("retry", "12345", str(2**63)), "there is no job 12345, 9223372036854775808"),
        (("priority", "5", "12345"), "there is no job 12345"),
        (("wait", "12345"), "there is no job 12345"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(store: Store, words: tuple[str, ...], why: str) -> None:
    """And nothing is done."""
    said = Said(*words)
    assert why in said.error
    assert said.code != 0
    assert not Job.objects.using(store.alias).exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), ("7", 7), ("1.5h", 5400)],
)
def test_ages(text: str, seconds: float) -> None:
    """A number and its unit."""
    assert age(text) == seconds


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_list_is_a_table_without_anything_but_text(store: Store) -> None:
    """Elsewhere than on a terminal nothing is shortened, however long it is."""
    long = "a." + "very_" * 40 + "long.task"
    broken, [pk] = failed(store), put(store, task=long)
    said = Said("list")
    assert "\x1b" not in said.text
    heading, *rows = said.lines
    assert heading.split() == ["ID", "STATUS", "QUEUE", "TASK", "PRIO", "TRIES", "AGE", "RAN", "ERROR"]
    assert [line.split()[:4] for line in rows] == [
        [str(pk), "ready", "default", long],
        [str(broken), "failed", "default", NOOP],
    ]
    assert rows[1].endswith("ValueError")
    assert Said("list", "--queue", "nobody").lines == ["no jobs"]


def test_a_terminal_keeps_its_width_and_the_ids(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and queues are shortened, ids never."""
    [pk] = put(store, task="a." + "very_" * 40 + "long.task")
    Job.objects.using(store.alias).filter(pk=pk).update(id=10**15)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    said = Said("list", "--no-color", terminal=True)
    lines = [line for line in said.lines if "ready" in line]
    assert str(10**15) in lines[0]
    assert "…" in lines[0]
    assert all(len(line) <= 70 for line in lines)


def test_json_lines_have_stable_keys(store: Store) -> None:
    """One object per job, the newest first."""
    first, second = put(store, 2)
    told = Said("list", "--json").jsons
    assert [job["id"] for job in told] == [second, first]
    assert list(told[0]) == [
        "id", "task", "queue", "status", "priority", "attempt", "uncounted", "max_attempts", "enqueued_at", "run_after",
        "started_at", "last_attempted_at", "finished_at", "cancel_asked_at", "worker", "error",
    ]  # fmt: skip
    assert [job["id"] for job in Said("list", "--json", "--limit", 1).jsons] == [second]


def test_the_story_is_told_in_words(store: Store) -> None:
    """Arguments, attempts, how a worker ended, when it is tried again."""
    run = begin(store)
    pk = claimed(store, run, max_attempts=3, arguments='{"args":[1,"zwei"],"kwargs":{"drei":[3]}}')
    store.lost(run, [loss(pk)])
    said = Said("show", pk)
    assert said.lines[0] == f"job {pk} {NOOP}: scheduled"
    for words in (
        'arguments:   (1, "zwei", drei=[3])', "attempts:    1 of 3", "tried again: ", "attempt 1: failed, after 2.0 s",
        f"worker: {WORKER}", "error:  jobsup.errors.WorkerLost", "worker 1 (pid 100) was killed by SIGKILL",
    ):  # fmt: skip
        assert words in said.text, said.text


def test_what_would_steer_a_terminal_is_shown_as_text(store: Store) -> None:
    """An error may contain anything."""
    pk = failed(store, "\x1b[31mred\x07")
    assert "\\x1b[31mred\\x07" in Said("show", pk).text


def test_a_job_that_runs_tells_who_has_it(store: Store) -> None:
    """Supervisor, worker, and that it was cancelled."""
    run = begin(store)
    pk = claimed(store, run)
    store.cancel([pk])
    store.mark_running(run, pk, WORKER, 1.0)
    text = Said("show", pk).text
    assert f"supervisor one on node (pid 100, run {run}; starting, last heard of" in text
    assert f"{WORKER}\n" in text
    assert "and still running" in text
    assert "attempt 1: running" in text
    assert "running, to be cancelled" in Said("list", pk).text


def test_a_story_as_json_has_everything(store: Store) -> None:
    """One line per job."""
    pks = put(store, 2)
    told = Said("show", *pks, "--json").jsons
    assert [job["id"] for job in told] == pks
    assert {"arguments", "options", "attempts", "owner", "result", "has_result", "left_behind"} <= set(told[0])


def test_figures_are_shown_and_told(store: Store) -> None:
    """Per queue and per task; as JSON in one object."""
    assert Said("stats").lines == ["no jobs wait, run or have ended within the last hour"]
    put(store, 3)
    said = Said("stats")
    assert said.lines[1].split()[:2] == ["default", "3"]
    assert said.lines[-1].split()[:2] == [NOOP, "3"]
    told = Said("stats", "--json").json
    assert list(told) == ["at", "queues", "tasks"]
    assert (told["queues"][0]["name"], told["queues"][0]["ready"]) == ("default", 3)


def test_one_picture_is_drawn_where_nobody_looks(store: Store) -> None:
    """Supervisors that are alive, queues, and the workers that are known to run something."""
    run = begin(store)
    pk = claimed(store, run)
    store.mark_running(run, pk, WORKER, 1.0)
    put(store, 2)
    text = Said("top").text
    assert "\x1b" not in text
    for words in ("SUPERVISOR", "one", "node:one:1", str(pk), "default"):
        assert words in text
    told = Said("top", "--json").json
    assert list(told) == ["at", "per_s", "at_least", "supervisors", "workers", "queues"]
    [worker] = told["workers"]
    assert (worker["job"], worker["task"], worker["pid"]) == (pk, NOOP, 100)
    [supervisor] = told["supervisors"]
    assert (supervisor["name"], supervisor["claimed"], supervisor["silent"]) == ("one", 1, False)


def test_the_doctor_tells_and_its_exit_code_does(store: Store) -> None:
    """0 when nothing hurts; a note hurts nobody."""
    said = Said("doctor", "--json")
    codes = {finding["code"] for finding in said.json["findings"]}
    assert "no-supervisor" in codes
    assert (said.code, said.json["ok"]) == (1, False)
    assert list(said.json["findings"][0]) == ["code", "severity", "words", "remedy"]
    assert any(line.startswith("WARNING no-supervisor: no supervisor is alive") for line in Said("doctor").lines)
    begin(store)
    if Store().sql.connection.vendor == "sqlite":  # the server of the tests syncs nothing, and that is told
        said = Said("doctor")
        assert (said.code, said.lines) == (0, ["nothing that hurts was found"])
