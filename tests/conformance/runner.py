"""Runs checks: many of them share one round of the worker, those that may harm it have rounds of their own."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.conformance.checks import RUNNING, WORKED, Check, Moment, NotOffered, Steps
from tests.conformance.work import work

ROUNDS_MAX = 4

Result = Literal["ok", "fails", "not offered"]


@dataclass(frozen=True)
class Verdict:
    """What a check found."""

    check: Check
    result: Result
    detail: str = ""


@dataclass
class _Open:
    """A check that waits for a moment."""

    check: Check
    steps: Steps
    moment: Moment


class Run:
    """One run of checks over the backend that is configured."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.rounds: list[str] = []  # how each round of the worker went, in words

    def all(self, checks: Sequence[Check]) -> None:
        """Run checks."""
        for group in _groups(checks):
            self._group(group)
        order = {check.name: number for number, check in enumerate(checks)}
        self.verdicts.sort(key=lambda verdict: order[verdict.check.name])

    def _group(self, checks: Sequence[Check]) -> None:
        waiting = [begun for check in checks if (begun := self._begin(check))]
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            waiting = self._round(waiting)
        for each in waiting:
            self.verdicts.append(Verdict(each.check, "fails", "the check asked for too many rounds of the worker"))

    def _round(self, waiting: list[_Open]) -> list[_Open]:
        """Have the worker work once; return who waits for another time."""
        looked: list[_Open] = []

        def look() -> None:
            looked.extend(next_ for each in waiting if each.moment is RUNNING and (next_ := self._advance(each)))

        at_the_gate = [each for each in waiting if each.moment is RUNNING]
        began = time.monotonic()
        gone = work(look)
        self.rounds.append(f"{len(waiting)} checks, {time.monotonic() - began:.1f} s, {gone}")
        if at_the_gate and not any(each.moment is WORKED for each in looked) and not self._told(at_the_gate):
            look()  # it never came to the gate: they look, and say what they see
        waiting = [each for each in waiting if each not in at_the_gate] + looked
        return [again for each in waiting if (again := self._advance(each))]

    def _told(self, opened: Sequence[_Open]) -> bool:
        """True when these checks have come to a verdict."""
        ended = {verdict.check.name for verdict in self.verdicts}
        return all(each.check.name in ended for each in opened)

    def _begin(self, check: Check) -> _Open | None:
        """Run a check until it waits for something; None when it is over."""
        missing = [need.value for need in check.needs if not need.met()]
        if missing:
            self.verdicts.append(Verdict(check, "not offered", missing[0]))
            return None
        try:
            steps = check.function()
        except BaseException as error:  # noqa: BLE001  # whatever a backend throws is what it answers
            self._note(check, error)
            return None
        if steps is None:
            self.verdicts.append(Verdict(check, "ok"))
            return None
        return self._advance(_Open(check, steps, WORKED))

    def _advance(self, opened: _Open) -> _Open | None:
        """Run a check on until it waits again; None when it is over."""
        try:
            opened.moment = next(opened.steps)
        except StopIteration:
            self.verdicts.append(Verdict(opened.check, "ok"))
        except BaseException as error:  # noqa: BLE001  # the same
            self._note(opened.check, error)
        else:
            return opened
        return None

    def _note(self, check: Check, error: BaseException) -> None:
        if isinstance(error, NotOffered):
            self.verdicts.append(Verdict(check, "not offered", str(error)))
            return
        if isinstance(error, AssertionError):
            detail = str(error) or _line(error)
        else:
            detail = f"{type(error).__name__}: {error} ({_line(error)})"
        self.verdicts.append(Verdict(check, "fails", detail))


def _groups(checks: Sequence[Check]) -> list[list[Check]]:
    """Return those that share their rounds, then the others by their names for being alone."""
    groups: dict[str, list[Check]] = {"": []}
    for check in checks:
        groups.setdefault(check.alone, []).append(check)
    return list(groups.values())


def _line(error: BaseException) -> str:
    """Return the last line of the suite that the exception came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "conformance" in frame.filename]
    return f"{frames[-1].line}" if frames else ""
