"""Several pools in one supervisor, with real workers; a key's feed is what the key does."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

from tests.process.listpool import Does, key
from tests.support import eventually, title_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool

MAIL: dict[str, Any] = {"name": "mail", "workers": 1, "feeds": ["noop"]}
REST: dict[str, Any] = {"name": "rest", "workers": 2, "at_once": {"sleep": 1}}


def titles(pool: Pool) -> list[str]:
    """Return the titles of the workers without what they do."""
    return sorted(re.sub(r"\) .*", ")", title_of(pid)) for pid in pool.workers())


def test_a_pool_of_its_own_is_free_however_busy_the_others_are(pool: Callable[..., Pool]) -> None:
    """The slow keys wait for their pool; the titles, the log and the accounts tell which worker is whose."""
    slow = [key(Does.SLEEP, 20_000) for _ in range(3)]
    quick = [key(Does.NOOP) for _ in range(20)]
    both = pool(slow, pools=[MAIL, REST | {"at_once": {}}]).wait_started(slow[0], slow[1])
    both.add(*quick)
    both.wait_done(*quick).wait_log("ready: 3 workers on duty: ")
    assert titles(both) == ["listpool: worker 1 (mail)", "listpool: worker 2 (rest)", "listpool: worker 3 (rest)"]
    assert not both.starts(slow[2])
    both.signal(signal.SIGUSR2)
    both.wait_log("the pools: mail with 1 worker, rest with 2 workers")
    both.signal(signal.SIGTTIN)
    both.wait_log("the number of workers stays: there are 2 pools")
    both.signal(signal.SIGQUIT)
    assert both.wait() == 0
    assert re.search(r"worker [23] \(rest, pid \d+\) was killed by SIGABRT by the stop", both.account(slow[0]))


def test_no_more_workers_are_busy_with_a_feed_than_its_limit_allows(pool: Callable[..., Pool]) -> None:
    """One at a time, each once, while the other worker of the pool does the rest."""
    slow, quick = [key(Does.SLEEP, 150) for _ in range(6)], [key(Does.NOOP) for _ in range(30)]
    one = pool([*slow, *quick], pools=[REST]).wait_done(*slow, *quick, timeout_s=60)
    one.stop()
    assert sorted(one.done()) == sorted([*slow, *quick])
    running: set[int] = set()
    for what, _, _, *details in one.journal():
        if what in ("start", "done") and details[0] in slow:
            running.symmetric_difference_update(details)
            assert len(running) <= 1, f"{running} run at once"


def test_a_feed_that_is_paused_begins_nothing_until_it_goes_on(pool: Callable[..., Pool]) -> None:
    """What runs is finished; what waits behind it on the lane goes back."""
    slow, quick = key(Does.SLEEP, 1500), [key(Does.NOOP) for _ in range(5)]
    calm = pool(workers=1, release_after_s=60.0).ready(1)
    warm = [key(Does.NOOP) for _ in range(200)]
    calm.add(*warm)
    calm.wait_done(*warm)
    calm.add(slow, *quick)
    calm.wait_started(slow)
    eventually(lambda: any({*quick} & {*pks} for (pks,) in calm.events("claim")), 60, "the keys behind it claimed")
    calm.pause("noop")
    calm.wait_done(slow, timeout_s=60)
    eventually(lambda: {pk for (pks,) in calm.events("release") for pk in pks} >= {*quick}, 60, "the keys given back")
    calm.ready(1)
    assert not any(map(calm.starts, quick))
    calm.pause()
    calm.wait_done(*quick, timeout_s=60).stop()
    assert [calm.starts(pk) for pk in quick] == [1] * 5


def test_a_reload_takes_the_pools_of_the_new_settings(pool: Callable[..., Pool]) -> None:
    """They are read by the new workers: sizes, feeds, pools that come and go; a job of one that goes is finished."""
    slow, quick = key(Does.SLEEP, 3000), key(Does.NOOP)
    changing = pool([slow], pools=[MAIL | {"feeds": ["sleep"]}]).wait_started(slow)
    changing.code(pools=[MAIL, {"name": "rest", "workers": 2, "feeds": ["sleep"]}])
    changing.signal(signal.SIGHUP)
    changing.wait_log("the pools from now on: mail with 1 worker, rest with 2 workers", 60)
    assert changing.events("serve") == [[["mail"]], [["mail", "rest"]]]
    changing.wait_done(slow, timeout_s=60).ready(3)
    changing.code(pools=[REST | {"workers": 1}])
    changing.signal(signal.SIGHUP)
    changing.wait_log("reload done: ", 60, count=2)
    changing.ready(1)
    changing.add(quick)
    changing.wait_done(quick).stop()
    assert (changing.starts(slow), changing.events("lost")) == (1, [])


def test_a_claim_whose_answer_was_lost_brings_no_key_to_another_pool(pool: Callable[..., Pool]) -> None:
    """Nobody knows any more who asked: what was claimed goes back and is claimed anew."""
    jobs = [key(Does.NOOP) for _ in range(5)]
    both = pool(pools=[MAIL, REST | {"feeds": ["sleep"]}]).ready(3)
    (both.directory / "lose_the_answer").touch()
    both.add(*jobs)
    both.wait_done(*jobs, timeout_s=60).stop()
    assert both.events("strays") == both.events("release")[:1] != []
    assert [both.starts(pk) for pk in jobs] == [1] * 5
