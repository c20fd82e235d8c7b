"""The delays between boots."""

from __future__ import annotations

from spawnpool.restarts import Backoff
from spawnpool.slots import Reload


def test_delays_double_up_to_a_minute_and_ready_forgets_them() -> None:
    """1, 2, 4, 8, 16, 32, 60 and no more, however long it lasts."""
    backoff = Backoff()
    assert [backoff.boot_failed() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    for _ in range(5000):
        assert backoff.boot_failed() == 60
    backoff.booted()
    assert backoff.boot_failed() == 1


def test_a_reload_keeps_the_limits_that_the_latest_new_worker_read() -> None:
    """All of them read the same settings; the last one counts."""
    reload, limits = Reload(1), {"workers": 2.0}
    reload.taken_over({"workers": 1.0})
    reload.taken_over(limits)
    limits.clear()
    assert (reload.count, reload.limits) == (2, {"workers": 2.0})
