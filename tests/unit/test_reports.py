"""Reports as bytes: whole or not at all, bounded, and nothing else is taken for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawnpool.errors import BrokenReport
from spawnpool.reports import REPORT_BYTES_MAX, Kind, Report, decode, encode

quick = settings(max_examples=60, derandomize=True, database=None, deadline=None)
keys = st.integers(-(2**63), 2**63 - 1)
reports = st.builds(Report, st.sampled_from(Kind), keys, st.integers(0, 2**32 - 1), st.text(max_size=40))


@given(sent=st.lists(reports, max_size=6), cut=st.integers(0, 400))
@quick
def test_m4_reports_arrive_whole_wherever_the_stream_is_cut(sent: list[Report], cut: int) -> None:
    """A partial report waits in the buffer for its rest."""
    stream = b"".join(encode(Kind(report.kind), *report[1:]) for report in sent)
    buffer = bytearray(stream[:cut])
    found = decode(buffer)
    buffer += stream[cut:]
    assert found + decode(buffer) == sent
    assert not buffer


@given(noise=st.binary(min_size=16, max_size=64))
@quick
def test_m5_noise_is_refused_or_bounded(noise: bytes) -> None:
    """Whatever arrives, it is refused as no report or taken as at most as many reports as fit."""
    with suppress(BrokenReport):
        assert len(decode(bytearray(noise))) <= len(noise) // 16


@pytest.mark.parametrize("head", ["02010000", "01000000", "010e0000", "0101f101"])
def test_m5_a_wrong_version_kind_or_length_is_refused(head: str) -> None:
    """The three fields that can be wrong."""
    with pytest.raises(BrokenReport, match=head):
        decode(bytearray(bytes.fromhex(head) + bytes(12)))


def test_m4_no_report_is_longer_than_a_pipe_writes_atomically() -> None:
    """A long text is cut, also in the middle of a character; a huge amount is capped. A start may go before it."""
    frame = encode(Kind.FAILED, text="é" * 1000)
    assert len(encode(Kind.STARTED, 1, 1) + frame) == REPORT_BYTES_MAX < 4096
    (report,) = decode(bytearray(frame))
    assert report.text.startswith("ééé")
    assert decode(bytearray(encode(Kind.SETTLED, 1, 2**40))) == [Report(Kind.SETTLED, 1, 2**32 - 1)]


def test_a_lone_surrogate_in_a_text_does_not_stop_the_report() -> None:
    """The words of an exception may hold anything."""
    assert decode(bytearray(encode(Kind.FAILED, text="a\udc80b")))[0].text == "a?b"
