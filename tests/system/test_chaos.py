"""Jepsen in small: `jobs torture` on each database, for a few seconds. `make chaos` does it for long.

Workers and supervisors are killed, stopped, reloaded and deployed, sessions of the server are ended, the table is
locked, while jobs of every kind are enqueued and run; then the history is judged. The seed is in the output;
JOBSUP_CHAOS_SEED repeats its choices.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import run_django
from tests.vendors import wanted

if TYPE_CHECKING:
    from tests.databases import Database

SEED = int(os.environ.get("JOBSUP_CHAOS_SEED", "0")) or time.time_ns() % 1_000_000
JOBS, FAULTS, SECONDS = 100, 7, 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", wanted("sqlite", "postgresql", "mariadb"), indirect=True)
def test_every_promise_holds_whatever_is_killed_frozen_or_cut_off(database: Database) -> None:
    """Nothing lost, no atomic effect twice, each failure with its reason, nothing left behind."""
    size = ["--jobs", str(JOBS), "--faults", str(FAULTS), "--seconds", str(SECONDS), "--seed", str(SEED)]
    done = run_django(database.env, "jobs", "torture", "--json", "--verbosity=0", *size, timeout_s=280)
    sys.stdout.write(f"JOBSUP_CHAOS_SEED={SEED}\n{done.stdout}")
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, [promise for promise in told["promises"] if promise["broken"]]
    assert told["held"]
    assert not any(promise["broken"] for promise in told["promises"])
    assert told["enqueued"] > JOBS // 2
    assert told["struck"] >= FAULTS // 2
