"""What the end of a worker means: in words, and for the pool. Pure."""

from __future__ import annotations

from spawnpool import events as e
from spawnpool.member import Member
from spawnpool.states import Ended, ExitCode, WorkerState


def farewell(member: Member, event: e.Died) -> str:
    """Return why a worker did not become ready."""
    if member.farewell:
        return f"could not boot: {member.farewell}{event.where}"
    return event.words if event.code is None else f"{event.words} before it was ready{event.where}"


def is_excused(member: Member, event: e.Died) -> bool:
    """Tell whether a death is nothing against the pool: asked for, due to a job's own limits or to a source away."""
    asked_for = member.state is WorkerState.LEAVING and event.code == 0
    superseded = member.state is WorkerState.ENDING and member.ended is Ended.DIED  # ended for no fault of its own
    return asked_for or superseded or member.ended.by_a_limit or event.code == ExitCode.NOT_RECORDED
