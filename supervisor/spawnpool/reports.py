"""Reports from a worker to its supervisor as bytes: fixed frames, never pickles.

A frame is 16 bytes, little-endian: version, kind, length of a text that follows, an amount, a key. One write is at
most `REPORT_BYTES_MAX` bytes, less than PIPE_BUF (4096 on Linux), so that it lands in the pipe whole or not at all.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from spawnpool.errors import BrokenReport

VERSION = 1
REPORT_BYTES_MAX = 512
AMOUNT_MAX = 0xFFFFFFFF
_FRAME = struct.Struct("<BBHIq")
TEXT_BYTES_MAX = REPORT_BYTES_MAX - 2 * _FRAME.size  # a STARTED may go before it, in the same write


class Kind(IntEnum):
    """What a worker can say."""

    READY = 1  # booted; takes work from now on
    LIMIT = 2  # amount = index into RELOADABLE, key = value in thousandths
    STARTED = 3  # key = the latest one that has begun, amount = how many have; every earlier one has returned
    RETURNED = 4  # every started key has returned; recording begins
    SETTLED = 5  # key and all before it in the lane are recorded; amount = microseconds that they took
    EMPTIED = 6  # found a key revoked, dropped what it had; amount = the epoch it waits for
    BYE = 7  # leaves of its own accord
    FAILED = 8  # could not boot; text = why
    BOUNDS = 9  # text = the limits of the keys that start from now on
    ALIVE = 10  # well; amount = 1: idle, with nothing in hand, in the epoch that key says
    SPOILED = 11  # leaves, since a key left something behind that cannot be put right; text = what
    FLAW = 12  # some of the code is broken, the rest can be worked with; text = what
    POOLS = 13  # text = the next piece of what the settings say of pools


class Report(NamedTuple):
    """One report; `key`, `amount` and `text` mean what the kind says."""

    kind: int
    key: int = 0
    amount: int = 0
    text: str = ""


def encode(kind: Kind, key: int = 0, amount: int = 0, text: str = "") -> bytes:
    """Return the bytes of one report; a text is cut to `TEXT_BYTES_MAX`, an amount to 32 bits."""
    tail = text.encode("utf-8", "replace")[:TEXT_BYTES_MAX]
    return _FRAME.pack(VERSION, kind, len(tail), min(amount, AMOUNT_MAX), key) + tail


def decode(buffer: bytearray) -> list[Report]:
    """Take every whole report out of `buffer` and return them; a partial one stays in it.

    Raises:
        BrokenReport: the bytes are no reports.
    """
    reports: list[Report] = []
    offset, end, size = 0, len(buffer), _FRAME.size
    while end - offset >= size:
        version, kind, length, amount, key = _FRAME.unpack_from(buffer, offset)
        if version != VERSION or not Kind.READY <= kind <= Kind.POOLS or length > TEXT_BYTES_MAX:
            raise BrokenReport(f"no report begins with {bytes(buffer[offset : offset + size]).hex()}")
        if end - offset - size < length:
            break
        offset += size
        text = bytes(buffer[offset : offset + length]).decode("utf-8", "replace") if length else ""
        offset += length
        reports.append(Report(kind, key, amount, text))
    del buffer[:offset]
    return reports
