"""Limits refuse what cannot work, in words, and change only what they know."""

from __future__ import annotations

from dataclasses import fields

import pytest

from spawnpool.errors import LimitError
from spawnpool.limits import RELOADABLE, Limits
from spawnpool.reports import Kind, decode, encode


@pytest.mark.parametrize(
    ("name", "value"),
    [("workers", 0), ("workers", 1025), ("window_max", 0), ("window_max", 4001), ("grace_s", -1), ("boot_timeout_s", 0),
     ("check_interval_s", 0), ("poll_interval_s", 0), ("beat_interval_s", 1e9), ("abort_grace_s", float("nan")),
     ("cancel_ask_s", -1), ("cancel_grace_s", 1e9), ("max_jobs", -1), ("max_rss_bytes", -1), ("max_age_s", -0.1),
     ("restarts_max", 0), ("restarts_window_s", 0), ("silence_max_s", 0), ("memory_interval_s", 0)],
)  # fmt: skip
def test_a_limit_out_of_range_is_refused_with_its_name(name: str, value: float) -> None:
    """One sentence: which limit, what it is, and the range it must lie in."""
    with pytest.raises(LimitError, match=rf"^{name} is .* must lie between"):
        Limits(**{name: value})  # type: ignore[arg-type]


def test_changing_limits_leaves_unknown_names_out_and_keeps_types() -> None:
    """A newer worker may report what an older supervisor does not know."""
    changed = Limits(workers=2).changed({"workers": 3.0, "colour": 7.0})
    assert changed == Limits(workers=3)
    assert isinstance(changed.workers, int)


def test_what_a_reload_may_change_exists_and_arrives_in_thousandths() -> None:
    """Each of them is a limit, and the largest one that is allowed fits into a report."""
    assert set(RELOADABLE) <= {field.name for field in fields(Limits)}
    assert len(set(RELOADABLE)) == len(RELOADABLE)
    largest = Limits(max_rss_bytes=2**50, max_jobs=10**12)
    for amount, name in enumerate(RELOADABLE):
        value = getattr(largest, name)
        (report,) = decode(bytearray(encode(Kind.LIMIT, int(value * 1000), amount)))
        assert largest.changed({RELOADABLE[report.amount]: report.key / 1000}) == largest


def test_m4_the_largest_window_fits_into_one_pipe() -> None:
    """Nothing has to wait for room in a pipe of the usual size: 64 KiB, at most 11 bytes for a pickled key."""
    assert Limits(window_max=2000).window_max * 11 < 65536
    assert Limits().grace_s == 30
