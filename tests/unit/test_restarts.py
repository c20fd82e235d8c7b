"""The delays between boots, and how often workers may die."""

from __future__ import annotations

import pytest

from spawnpool.restarts import Backoff, Intensity
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


def died(intensity: Intensity, *times: float) -> list[bool]:
    """Count deaths at these times; return for each whether the pool became degraded by it."""
    return [intensity.died(at) for at in times]


def test_a_pool_becomes_degraded_by_one_death_more_than_are_allowed() -> None:
    """It is told once, and only what lies within the window counts."""
    assert died(Intensity(3, 60), 0, 20, 40, 60, 80) == [False] * 5
    assert died(Intensity(3, 60), 0, 20, 40, 59, 60) == [False, False, False, True, False]


def test_restarts_are_spread_while_it_is_degraded_and_free_before() -> None:
    """One every window / max seconds, counted from the last one."""
    intensity = Intensity(3, 60)
    intensity.restarted(5)
    assert intensity.may_restart_at() == float("-inf")
    died(intensity, 5, 5, 5, 5)
    assert (intensity.pause_s, intensity.may_restart_at()) == (20, 25)
    intensity.restarted(30)
    assert intensity.may_restart_at() == 50


@pytest.mark.parametrize("restarts_max", range(1, 8))
def test_it_recovers_when_half_of_the_deaths_are_forgotten(restarts_max: int) -> None:
    """Exactly at the time that it names, whatever that is as a binary fraction; and it tells that once."""
    intensity = Intensity(restarts_max, 60)
    assert intensity.recovery_at() is None
    times = [1000.1 + n / 7 for n in range(restarts_max + 3)]
    assert sum(died(intensity, *times)) == 1
    at = intensity.recovery_at()
    assert at == times[-(restarts_max // 2) - 1] + 60
    assert not intensity.recovered(at - 0.01)
    assert intensity.recovered(at)
    assert not intensity.recovered(at)
    assert (intensity.degraded, intensity.recovery_at()) == (False, None)
    assert intensity.may_restart_at() == float("-inf")


def test_a_pool_may_become_degraded_again() -> None:
    """By as many deaths as ever, of which those that are still remembered are part."""
    intensity = Intensity(2, 60)
    assert died(intensity, 0, 1, 50) == [False, False, True]
    assert intensity.recovered(61)
    assert died(intensity, 70, 71) == [False, True]
