"""What the end of a worker means: in words, and for the pool. Pure."""

from __future__ import annotations

from spawnpool import events as e
from spawnpool.member import Member
from spawnpool.source import Loss
from spawnpool.states import Ended, ExitCode, WorkerState


def farewell(member: Member, event: e.Died) -> str:
    """Return why a worker did not become ready."""
    if member.farewell:
        return f"{'leaves' if member.was_ready else 'could not boot'}: {member.farewell}{event.where}"
    return event.words if event.code is None else f"{event.words} before it was ready{event.where}"


def found_no_room(member: Member, event: e.Died) -> bool:
    """Tell whether a worker left because there was none for it, and said so: a job may end with any code."""
    return event.code == ExitCode.CROWDED and bool(member.farewell)


def is_excused(member: Member, event: e.Died) -> bool:
    """Tell whether a death is nothing against the pool: asked for, due to a job's own limits or to a source away."""
    asked_for = member.state is WorkerState.LEAVING and event.code == 0
    superseded = member.state is WorkerState.ENDING and member.ended is Ended.DIED  # ended for no fault of its own
    not_its_fault = member.ended.by_a_limit or member.ended is Ended.FENCED
    source_was_not_there = event.code == ExitCode.NOT_RECORDED or found_no_room(member, event)
    return asked_for or superseded or not_its_fault or source_was_not_there


def loss_of(member: Member, event: e.Died, pk: int, ran_s: float | None, pool: str) -> Loss:
    """Return the account of one key; a limit of the running one is no business of those that had returned."""
    words, peak_bytes, why = event.words, event.peak_bytes, member.why or event.cause
    stack = "" if ran_s is None else event.stack
    if member.ended.by_a_limit and (ran_s is None or pk != member.ended_for):
        if ran_s is not None:  # it began while its worker was being ended
            why = f"for the job before this one: {why}"
        return Loss(pk, member.number, 0, words, ran_s, Ended.EXPELLED, peak_bytes, why, stack, pool)
    return Loss(pk, member.number, 0, words, ran_s, member.ended, peak_bytes, why, stack, pool)
