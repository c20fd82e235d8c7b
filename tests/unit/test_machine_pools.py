"""The machine, one story at a time: pools, limits of feeds, paused feeds."""

from __future__ import annotations

import pytest

from spawnpool import events as e
from spawnpool.errors import LimitError
from spawnpool.limits import Limits
from spawnpool.pools import Pool, agreed, checked, decode, encode
from spawnpool.states import StopReason
from tests.unit.stories import boot_all, finish, learn_short_keys, on_duty, serving, start
from tests.unit.world import World

# The feeds of the keys 1, 2, 3 ... of a world are b, c, a, b, c, a ...
TWO = (Pool(name="mail", workers=1, feeds=("a", "b"), ordered=True), Pool(name="rest", workers=2))


def claimed_for(world: World) -> dict[str, list[int]]:
    """Return the keys on the lanes of each pool."""
    found: dict[str, list[int]] = {}
    for member in world.machine.members.values():
        found.setdefault(member.pool, []).extend(member.window)
    return found


def test_each_pool_has_its_workers_and_its_keys() -> None:
    """The places are numbered through; a pool that serves everything does not get what another one holds."""
    world = on_duty(keys=9, pools=TWO)
    assert {m.number: m.pool for m in world.machine.members.values()} == {1: "mail", 2: "rest", 3: "rest"}
    assert claimed_for(world) == {"mail": [3], "rest": [1, 2]}
    assert any("ready: 3 workers on duty: 1 for mail, 2 for rest" in text for text in world.said)


def test_an_earlier_feed_always_goes_first() -> None:
    """However old the keys of the later one are."""
    world = on_duty(keys=6, pools=[Pool(name="mail", workers=1, feeds=("a", "b"), ordered=True)])
    for _ in range(30):
        for puppet in world.puppets.values():
            puppet.act(1)
        world.deliver_all()
    assert list(world.attempts) == []
    assert sorted(world.finished) == [1, 3, 4, 6], "and what is in no feed of it stays"
    assert list(world.owners) == [3, 6, 1, 4]


def test_a_pool_without_work_does_not_help_another() -> None:
    """That is what pools are for: there is always somebody for the mail."""
    world = on_duty(pools=(Pool(name="mail", workers=1, feeds=("a",)), Pool(name="slow", workers=1, feeds=("b", "c"))))
    world.add_keys(2)
    world.feed(e.Woken())
    start(world, world.puppets[2])
    world.tick(5)
    assert claimed_for(world) == {"mail": [], "slow": [1]}
    assert list(world.waiting) == [2]
    world.add_keys(1)
    world.feed(e.Woken())
    assert claimed_for(world) == {"mail": [3], "slow": [1]}


def test_keys_behind_a_slow_one_do_not_go_to_a_free_worker_of_another_pool() -> None:
    """They go back to the source, where a pool that may have them finds them."""
    world = on_duty(pools=(Pool(name="one", workers=1, feeds=("a",)), Pool(name="two", workers=1, feeds=("b", "c"))))
    learn_short_keys(world)
    world.add_keys(6)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    start(world, world.puppets[2])
    assert {pool: len(keys) for pool, keys in claimed_for(world).items()} == {"one": 2, "two": 4}
    for _ in range(9):
        finish(world, world.puppets[1])
    world.tick(1.5)
    world.tick(1.5)
    assert {pool: len(keys) for pool, keys in claimed_for(world).items()} == {"one": 0, "two": 1}


def test_no_more_keys_of_a_feed_are_taken_than_its_limit_allows() -> None:
    """The other workers of the pool are for the other feeds; the next key is taken when one is done."""
    world = on_duty(keys=9, pools=[Pool(name="rest", workers=3, at_once={"b": 1})], window_max=1)
    assert claimed_for(world) == {"rest": [1, 2, 3]}
    for number in (2, 3):
        start(world, world.puppets[number])
        finish(world, world.puppets[number])
    assert sorted(claimed_for(world)["rest"]) == [1, 5, 6], "4 and 7 are of the feed that has its one already"
    start(world, world.puppets[1])
    finish(world, world.puppets[1])
    assert sorted(claimed_for(world)["rest"]) == [4, 5, 6]


def test_a_pool_whose_every_feed_has_its_limit_asks_again_when_there_is_room() -> None:
    """Until then it does not ask at all, and the loop does not spin."""
    world = on_duty(keys=9, pools=[Pool(name="rest", workers=3, feeds=("b",), at_once={"b": 2})])
    assert sorted(claimed_for(world)["rest"]) == [1, 4]
    deadline = world.machine.next_deadline()
    assert deadline is not None
    assert deadline > world.now
    start(world, world.puppets[1])
    finish(world, world.puppets[1])
    assert sorted(claimed_for(world)["rest"]) == [4, 7]


def test_the_next_key_of_a_limited_feed_does_not_wait_for_the_next_poll() -> None:
    """That somebody asked in vain while there was no room must not hold it up."""
    world = on_duty(pools=[Pool(name="rest", workers=2, at_once={"b": 1})])
    world.feeds = ("b",)
    world.add_keys(2)
    world.feed(e.Woken())
    world.tick()
    assert claimed_for(world) == {"rest": [1]}
    start(world, world.puppets[1])
    finish(world, world.puppets[1])
    assert claimed_for(world) == {"rest": [2]}


def test_a_key_whose_worker_is_killed_makes_room() -> None:
    """What is lost counts no longer; what was not begun still does, and goes to the next worker."""
    world = on_duty(keys=9, pools=[Pool(name="rest", workers=1, feeds=("b",), at_once={"b": 1})])
    world.puppets[1].code = -9
    world.reap()
    assert claimed_for(world) == {"rest": []}
    boot_all(world)
    assert claimed_for(world) == {"rest": [1]}
    start(world, world.puppets[2])
    world.puppets[2].code = -9
    world.reap()
    boot_all(world)
    assert claimed_for(world) == {"rest": [4]}


def test_an_idle_pool_does_not_hurry_the_reports_of_a_busy_one() -> None:
    """Nothing is waited for there; within a pool a worker without keys may need them."""
    world = on_duty(pools=(Pool(name="busy", workers=2, feeds=("b", "c")), Pool(name="idle", workers=1, feeds=("a",))))
    assert not world.machine.unhurried(0.005)
    learn_short_keys(world)
    world.add_keys(60)
    world.feed(e.Woken())
    for _ in range(60):
        world.act(world.puppets[3], 1)
        world.deliver(world.puppets[3])
    assert not world.machine.members[3].window
    assert world.machine.unhurried(0.005)
    for _ in range(60):
        world.act(world.puppets[1], 1)
    world.deliver(world.puppets[1])
    assert not world.machine.members[1].window
    assert not world.machine.unhurried(0.005)


def test_reports_wait_for_half_as_long_as_the_keys_of_each_worker_last() -> None:
    """Not longer, or a worker would stand idle for that; how long keys take must be known."""
    world = on_duty(1, keys=1)
    world.feed(e.Woken())
    assert not world.machine.unhurried(0.005)
    learn_short_keys(world)
    world.add_keys(30)
    world.feed(e.Woken())
    assert world.machine.members[1].unstarted == 30
    assert world.machine.unhurried(0.010)
    assert not world.machine.unhurried(0.020)


# ---- paused feeds


def test_keys_of_a_paused_feed_go_back_and_the_others_stay() -> None:
    """What has begun goes on; what has not is given back, and the rest of that hand is sent again."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(6)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    assert list(world.machine.members[1].window) == [4, 5, 6, 7, 8, 9]
    world.pause("b", "c")
    assert list(world.machine.members[1].window) == [4]
    assert world.machine.spare == [6, 9]
    assert sorted(world.waiting) == [5, 7, 8]
    finish(world, world.puppets[1])
    for _ in range(20):
        world.act(world.puppets[1], 1)
        world.deliver_all()
    assert sorted(world.waiting) == [5, 7, 8]
    world.paused.clear()
    world.feed(e.Woken())
    for _ in range(20):
        world.act(world.puppets[1], 1)
        world.deliver_all()
    assert not world.waiting
    assert world.finished == set(range(1, 10))


def test_a_pause_that_is_told_while_a_key_is_being_taken_back_holds() -> None:
    """The answer that was on its way does not bring the key to another worker."""
    world = on_duty(2, keys=2)
    puppet = world.puppets[1]
    world.machine.step(e.PauseAsked([1]), world.now)  # the shell has not asked the lane yet
    puppet.permits -= 1
    world.unwanted.add(1)
    world.feed(e.TakenBack(1, 1))
    assert list(world.waiting) == [1]


def test_what_is_paused_while_the_supervisor_drains_is_told_in_its_report() -> None:
    """Every key that was held is named once."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(3)
    world.feed(e.Woken())
    world.pause("b")
    world.stop(StopReason.DRAIN)
    for _ in range(5):
        world.act(world.puppets[1], 1)
        world.deliver_all()
    world.reap()
    assert world.report is not None
    assert sorted(world.report.given_back) == [5, 6]


# ---- more and fewer, other pools


def test_more_workers_are_refused_in_words_where_nobody_can_tell_of_which_pool() -> None:
    """TTIN and TTOU are for a supervisor with one pool."""
    world = on_duty(pools=TWO)
    world.feed(e.ResizeAsked(+1))
    world.feed(e.ResizeAsked(-1))
    assert world.machine.wanted == 3
    assert world.said[-1] == (
        "the number of workers stays: there are 2 pools (mail with 1 worker, rest with 2 workers); "
        "change it in the settings and reload"
    )


def reload_to(world: World, pools: tuple[Pool, ...], turns: int = 12) -> None:
    """Reload, with other pools in the settings."""
    world.pools = pools
    world.feed(e.ReloadAsked())
    for _ in range(turns):
        boot_all(world)
        for puppet in list(world.puppets.values()):
            world.act(puppet, 1)
        world.deliver_all()
        world.reap()
        world.tick(0.01)


def pools_of(world: World) -> dict[int, str]:
    """Return the pool of each worker on duty."""
    return {member.number: member.pool for member in world.machine.members.values() if member.serving}


def test_a_reload_takes_other_sizes_and_feeds() -> None:
    """The workers that are too many leave; a new feed is served at once."""
    world = on_duty(pools=TWO)
    reload_to(world, (Pool(name="mail", workers=2, feeds=("c",)), Pool(name="rest", workers=1, feeds=("a", "b"))))
    assert pools_of(world) == {1: "mail", 2: "rest", 4: "mail"}
    assert any("the pools from now on: mail with 2 workers, rest with 1 worker" in text for text in world.said)
    world.add_keys(3)
    world.feed(e.Woken())
    assert {pool: len(keys) for pool, keys in claimed_for(world).items()} == {"mail": 1, "rest": 1}
    assert world.owners[2] == ("mail", None)


def test_a_reload_brings_and_takes_away_pools() -> None:
    """The workers of one that is gone finish their jobs; what they had not begun goes back to the source."""
    world = on_duty(pools=TWO)
    learn_short_keys(world)
    world.add_keys(12)
    world.feed(e.Woken())
    for number in (2, 3):
        start(world, world.puppets[number])
    reload_to(world, (Pool(name="mail", workers=1, feeds=("a",)), Pool(name="all", workers=1)), turns=1)
    while world.machine.reloading:
        boot_all(world)
        world.tick_to_deadline()
    boot_all(world)
    assert set(pools_of(world).values()) == {"mail", "all"}
    assert world.machine.sizes == {"mail": 1, "all": 1}
    for _ in range(60):
        for puppet in list(world.puppets.values()):
            world.act(puppet, 1)
        world.deliver_all()
        world.reap()
        world.tick(0.001)
    assert world.finished == set(range(1, 16))


def test_a_reload_from_pools_to_none_and_back() -> None:
    """Without pools there is one, of as many workers as the limits say."""
    world = on_duty(pools=TWO)
    world.settings = {"workers": 2}
    reload_to(world, ())
    assert set(pools_of(world).values()) == {"default"}
    assert len(serving(world)) == 2
    reload_to(world, TWO, turns=20)
    assert sorted(pools_of(world).values()) == ["mail", "rest", "rest"]


def test_pools_that_contradict_the_command_line_are_left_out_in_words() -> None:
    """Nobody knows which of them --workers would be about."""
    world = on_duty(2, fixed=frozenset({"workers"}))
    reload_to(world, TWO)
    assert set(pools_of(world).values()) == {"default"}
    assert any("left out: they have pools now, and the command line says" in text for text in world.said)


# ---- the data


def test_pools_are_told_in_pieces_that_fit_into_reports() -> None:
    """However many queues there are, in whatever script."""
    pools = (
        Pool(name="one", workers=3, feeds=tuple(f"очередь {n}" for n in range(300)), ordered=True, at_once={"x": 2}),
        Pool(name="two", workers=1),
    )
    pieces = encode(pools)
    assert max(map(len, pieces)) <= 480
    assert decode("".join(pieces)) == pools
    assert encode(()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "[{}]", '[{"name":"a","workers":0,"feeds":null}]', "[]"])
def test_what_tells_of_no_pools_is_refused(text: str) -> None:
    """A worker of another version may say something else."""
    with pytest.raises(LimitError):
        decode(text)


@pytest.mark.parametrize(
    ("pools", "why"),
    [
        ((), "one pool at least"),
        ((Pool(name="a", workers=1), Pool(name="a", workers=1)), "a name of its own"),
        ((Pool(name="a", workers=1000), Pool(name="b", workers=25)), "1025 workers together"),
    ],
)
def test_pools_that_cannot_be_together_are_refused(pools: tuple[Pool, ...], why: str) -> None:
    """One name twice, or more workers than a supervisor may have."""
    with pytest.raises(LimitError, match=why):
        checked(pools)


def test_what_the_command_line_says_of_the_only_pool_stays() -> None:
    """Its size, or what it serves."""
    old = (Pool(workers=3, feeds=("mail",)),)
    new = (Pool(workers=5, feeds=("mail", "other")),)
    assert agreed(old, new, frozenset()) == new
    assert agreed(old, new, {"workers"}) == (Pool(workers=3, feeds=("mail", "other")),)
    assert agreed(old, new, {"feeds", "grace_s"}) == (Pool(workers=5, feeds=("mail",)),)


def test_a_limit_below_one_is_refused() -> None:
    """A queue that nobody shall serve is left out instead."""
    with pytest.raises(LimitError, match="at most 0 workers"):
        Pool(workers=1, at_once={"b": 0})
    with pytest.raises(LimitError, match="workers is 0"):
        Limits(workers=0)
