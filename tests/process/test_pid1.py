"""As process 1 of a container no zombie is left and no exit code is stolen; the resource tracker leaves with us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tests.support import ROOT, environment

TIMEOUT_S = 100
UNSHARE = ["unshare", *(["--user", "--map-root-user"] if os.geteuid() else [])]
AS_INIT = [*UNSHARE, "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
PROGRAM = "from tests.process.init_program import main; main()"  # by its own name, or its workers could not import it
NOTHING_LEFT = {"process": False, "open": False, "entry": [None, None], "within": True, "afterwards": None}


@cache
def namespaces_possible() -> bool:
    """True when this machine lets us be process 1 somewhere."""
    try:
        return subprocess.run([*AS_INIT, "true"], check=False, capture_output=True, timeout=TIMEOUT_S).returncode == 0
    except OSError:
        return False


def found(name: str, *prefix: str) -> dict[str, Any]:
    """Run a function of the program in a fresh Python where every warning is an error; return what it found."""
    ended = subprocess.run(
        [*prefix, sys.executable, "-W", "error", "-c", PROGRAM, name],
        cwd=ROOT,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def found_as_init(name: str) -> dict[str, Any]:
    """Run a function of the program as process 1 of a namespace of its own."""
    if not namespaces_possible():
        pytest.skip("this machine lets us make no process namespace (unshare --pid), and process 1 needs one")
    return found(name, *AS_INIT)


# -- process 1 --------------------------------------------------------------------------------------------------------


def test_m16_fault_31_as_process_1_orphans_are_reaped_and_exit_codes_stay() -> None:
    """Also behind dead children that somebody else waits for, which the kernel shows first."""
    answer = found_as_init("children_of_init")
    assert answer["init"] is True
    assert answer["early"] == [], "children that are known are left to those who wait for them"
    assert answer["reaped"] == 5
    assert answer["left"] is True
    assert answer["again"] == []
    assert answer["codes"] == [3, -9, 7]
    assert answer["last"] == 2
    assert answer["none"] == [[], []]


def test_m16_fault_31_as_process_1_a_worker_leaves_orphans_and_keeps_its_exit_code() -> None:
    """A real worker, beside the resource tracker: it is not taken for a stranger, and is gone at the end."""
    answer = found_as_init("workers_of_init")
    assert answer == {"code": 7, "reaped": 1, "alive": True, "left": [1], "afterwards": None}


def test_m16_a_subreaper_is_an_init_too() -> None:
    """Whoever asked for orphans gets them."""
    answer = found("subreaper")
    assert (answer["before"], answer["after"]) == (False, True)


# -- the resource tracker ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["never_ran", "ran", "was_killed", "was_collected", "queue_just_closed"])
def test_m14_nothing_is_left_of_the_resource_tracker(how: str) -> None:
    """Whatever became of it before; and the end of the program starts no other."""
    assert found(how) == NOTHING_LEFT


def test_m14_after_its_end_a_new_tracker_serves_whoever_needs_one() -> None:
    """And it can be ended like the first."""
    assert found("is_used_again") == NOTHING_LEFT | {"new": True}


def test_m14_a_tracker_of_our_parent_is_left_alone() -> None:
    """In a spawned process it is somebody else's."""
    assert found("is_parents") == NOTHING_LEFT | {"kept": True}


def test_m14_a_tracker_whose_pipe_a_stranger_holds_is_left_after_a_while() -> None:
    """It ends with the stranger; we do not wait for that."""
    assert found("is_held") == NOTHING_LEFT | {"process": True}
