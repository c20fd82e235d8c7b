"""Receivers of the three signals: they write down what they were told, and some are meant to fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tests.conformance import api, journal

SIGNALS = ("task_enqueued", "task_started", "task_finished")


def connect() -> None:
    """Listen to each signal."""
    for name in SIGNALS:
        getattr(api, name).connect(_receiver(name), weak=False, dispatch_uid=f"conformance {name}")


def _receiver(signal: str) -> Callable[..., None]:
    """Return a receiver that writes down what came, and then raises if that is what the task is for."""

    def receive(sender: Any, task_result: Any, **more: Any) -> None:
        kind, _, trace = sys.exc_info()
        journal.write(
            signal,
            str(task_result.id),
            sender=f"{sender.__module__}.{sender.__qualname__}" if isinstance(sender, type) else f"no class: {sender}",
            function=task_result.task.name,
            status=str(task_result.status),
            attempts=task_result.attempts,
            enqueued=task_result.enqueued_at is not None,
            started=task_result.started_at is not None,
            finished=task_result.finished_at is not None,
            errors=[each.exception_class_path for each in task_result.errors],
            value=_seen(lambda: task_result.return_value),
            error=kind.__name__ if kind else None,
            frames=_frames(trace),
            stored=_stored(task_result),
        )
        if task_result.task.name == f"receiver_of_{signal.removeprefix('task_')}_raises":
            raise RuntimeError("this receiver was meant to raise")

    return receive


def _stored(task_result: Any) -> str | None:
    """Return the status that the backend's store has at this moment, for the one task that asks."""
    if task_result.task.name != "looked_up":
        return None
    return str(_seen(lambda: str(task_result.task.get_backend().get_result(task_result.id).status)))


def _frames(trace: TracebackType | None) -> list[str]:
    """Return the names of the functions in a traceback, the outermost first."""
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return names


def _seen(look: Callable[[], Any]) -> Any:
    """Return what is seen, or the name of the exception that the look raised."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001  # a receiver may not disturb what it watches
        return f"raised {type(error).__name__}"
