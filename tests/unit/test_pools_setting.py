"""JOBSUP["POOLS"]: what it means, and how each mistake in it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from jobsup import checks, conf, pools, queues
from jobsup.looks import Looks
from spawnpool.pools import Pool

OURS = {"BACKEND": "jobsup.backend.JobsupBackend"}
TWO = {
    "mail": {"WORKERS": 2, "QUEUES": ["mail", "default"]},
    "rest": {"WORKERS": 4, "QUEUES": "*", "LIMITS": {"reports": 1}},
}
PATH = "JOBSUP['POOLS']"
MAIL = f"{PATH}['mail']"


def pool(**values: Any) -> dict[str, Any]:
    """Return a setting with one pool, of which some values are others; None leaves one out."""
    given = {"WORKERS": 2, "QUEUES": ["mail"]} | values
    return {"mail": {key: value for key, value in given.items() if value is not None}}


def test_pools_have_workers_and_queues_in_order_or_all_of_them() -> None:
    """Each in its place; the number of all workers is that of the supervisor."""
    with override_settings(JOBSUP={"POOLS": TWO}):
        settings = conf.load()
    assert settings.pools == (
        Pool(name="mail", workers=2, feeds=("mail", "default"), ordered=True),
        Pool(name="rest", workers=4, feeds=None, at_once={"reports": 1}),
    )
    assert settings.workers == 6


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, f"{PATH} is {{}}: expected a dict such as {{'mail': {{'WORKERS': 2"),
        ([], f"{PATH} is []: expected a dict such as"),
        ({1: {}}, f"{PATH} has a pool named 1: expected a string"),
        ({"two words": {}}, f"the name of a pool in {PATH} is 'two words': expected at most 40 letters"),
        ({"mail": 2}, f"{MAIL} is 2: expected a dict with WORKERS and QUEUES"),
        (pool(WORKER=2), f"{MAIL}['WORKER'] is unknown; there are LIMITS, QUEUES, WORKERS"),
        (pool(WORKERS=None), f"{MAIL}['WORKERS'] is missing: expected how many there are"),
        (pool(WORKERS=0), f"{MAIL}['WORKERS'] is 0: must lie between 1 and 1024"),
        (pool(WORKERS="2"), f"{MAIL}['WORKERS'] is '2': expected a whole number"),
        (pool(WORKERS=True), f"{MAIL}['WORKERS'] is True: expected a whole number"),
        (pool(QUEUES=None), f"{MAIL}['QUEUES'] is missing: expected a list of names, or '*' for every queue"),
        (pool(QUEUES="mail"), f"{MAIL}['QUEUES'] is 'mail': expected a list of names, or '*' for every queue"),
        (pool(QUEUES={"mail": 1}), f"{MAIL}['QUEUES'] is {{'mail': 1}}: expected a list of names"),
        (pool(QUEUES=7), f"{MAIL}['QUEUES'] is 7: expected a list of names"),
        (pool(QUEUES=[]), f"{MAIL}['QUEUES'] is empty: the pool would have nothing to do"),
        (pool(QUEUES=["mail", "*"]), f"{MAIL}['QUEUES'] contains '*' beside names: '*' stands alone"),
        (pool(QUEUES=["a", "mail", "a"]), f"{MAIL}['QUEUES'] names 'a' twice: leave one of them out"),
        (pool(QUEUES=[""]), f"{MAIL}['QUEUES'] contains '': expected names of 1 to 64 characters"),
        (pool(QUEUES=["q" * 65]), f"{MAIL}['QUEUES'] contains '{'q' * 65}': expected names of 1 to 64 characters"),
        (
            pool(QUEUES=["mail", {"reports": 1}]),
            f"{MAIL}['QUEUES'] contains {{'reports': 1}}: expected names; how many workers a queue may have at once",
        ),
        (pool(LIMITS=3), f"{MAIL}['LIMITS'] is 3: expected a dict such as {{'reports': 1}}"),
        (pool(LIMITS={"mail": 0}), f"{MAIL}['LIMITS']['mail'] is 0: must lie between 1 and 1024"),
        (
            pool(LIMITS={"reports": 1}),
            f"{MAIL}['LIMITS'] names 'reports': expected a queue of this pool; the pool serves mail",
        ),
        (
            pool(WORKERS=1000) | {"rest": {"WORKERS": 25, "QUEUES": "*"}},
            f"{PATH}: the pools have 1025 workers together: there may be 1024 at most",
        ),
    ],
)
def test_each_mistake_is_told_with_its_path_and_what_is_expected(given: Any, expected: str) -> None:
    """One sentence each."""
    with override_settings(JOBSUP={"POOLS": given}), pytest.raises(ImproperlyConfigured) as refused:
        conf.load()
    assert str(refused.value).startswith(expected)


def test_what_says_the_same_twice_is_refused() -> None:
    """How many workers there are, and what they serve, is said by the pools where there are any."""
    with override_settings(JOBSUP={"POOLS": TWO, "WORKERS": 6}), pytest.raises(ImproperlyConfigured) as refused:
        conf.load()
    assert str(refused.value) == (
        "JOBSUP['WORKERS'] does not go with JOBSUP['POOLS'], where each pool has its own: leave it out"
    )
    with override_settings(JOBSUP={"POOLS": TWO}):
        with pytest.raises(ImproperlyConfigured, match=r"^--workers 3: JOBSUP\['POOLS'\] .* leave --workers out$"):
            replace(conf.load(), workers=3)
        with pytest.raises(ImproperlyConfigured, match=r"^--queue mail: JOBSUP\['POOLS'\] says .*, leave --queue out$"):
            queues.served(["mail"])


def test_without_pools_there_is_one() -> None:
    """It serves what it is told to, by priority over all."""
    assert queues.pools(conf.Conf(workers=3), ("a", "b")) == (Pool(name="default", workers=3, feeds=("a", "b")),)
    assert queues.pools(conf.Conf(), None) == (Pool(name="default", workers=2, feeds=None),)


def test_a_queue_that_does_not_exist_is_refused() -> None:
    """Nothing would ever stand there; where TASKS allows any name, any will do."""
    with override_settings(JOBSUP={"POOLS": TWO}, TASKS={"default": OURS | {"QUEUES": ["default", "male", "reports"]}}):
        with pytest.raises(ImproperlyConfigured) as refused:
            queues.pools(conf.load(), None)
        [message] = checks.check_settings()
    assert str(refused.value) == (
        "JOBSUP['POOLS']['mail'] serves 'mail': no backend in TASKS has that queue; there are default, male, reports"
    )
    assert (message.id, message.msg) == ("jobsup.E002", str(refused.value))
    with override_settings(JOBSUP={"POOLS": TWO}, TASKS={"default": OURS | {"QUEUES": []}}):
        assert queues.pools(conf.load(), None) == conf.load().pools
        assert checks.check_settings() == []


def test_a_queue_that_nobody_serves_is_a_warning() -> None:
    """Its jobs would wait for ever, unless another supervisor has other settings."""
    named = {"default": OURS | {"QUEUES": ["mail", "reports"]}}
    with override_settings(JOBSUP={"POOLS": pool()}, TASKS=named):
        [message] = checks.check_settings()
    assert (message.id, message.msg) == (
        "jobsup.W003",
        "queue 'reports' is named in TASKS and no pool in JOBSUP['POOLS'] serves it: its jobs would wait for ever",
    )
    with override_settings(JOBSUP={"POOLS": pool() | {"rest": {"WORKERS": 1, "QUEUES": "*"}}}, TASKS=named):
        assert checks.check_settings() == []


def test_what_pools_serve_is_told_in_words() -> None:
    """As the first line of a supervisor's log says it."""
    one = Pool(workers=1, feeds=("default",))
    assert pools.words([one]) == "queue default"
    assert pools.words([replace(one, feeds=None)]) == "every queue"
    assert pools.words([replace(one, feeds=("a", "b"), at_once={"b": 2})]) == "queues a, b (b at most 2 at once)"
    with override_settings(JOBSUP={"POOLS": TWO}):
        told = pools.words(conf.load().pools)
    assert told == "mail: queues mail, default; rest: every queue (reports at most 1 at once)"


def test_each_pool_has_reasons_of_its_own_to_look() -> None:
    """What one has heard of is news for the others, too; room for one more of a queue is a reason for its pool."""
    looks, none, one = Looks(), {"reports": 0}, {"reports": 1}
    assert looks.worth_while("mail", {})
    looks.looked("mail", {}, found=False)
    looks.looked("rest", none, found=False)
    assert not looks.worth_while("mail", {})
    assert not looks.worth_while("rest", none)
    assert looks.worth_while("rest", one)
    looks.news()
    looks.looked("mail", {}, found=True)
    assert looks.worth_while("mail", {}), "there was something: there may be more"
    assert looks.worth_while("rest", none)
    looks.looked("rest", one, found=False)
    assert not looks.worth_while("rest", one)
