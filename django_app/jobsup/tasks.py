"""Ready-made tasks: `from jobsup.tasks import call_command; call_command.enqueue("clearsessions")`."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from django.core import management
from django.core.exceptions import ImproperlyConfigured

from jobsup import queues
from jobsup.compat import task_backends
from jobsup.task import task
from jobsup.text import bounded

OUTPUT_CHARS_MAX = 100_000
"""How much of a command's output is kept with the job, in characters: its head and its tail."""


def place() -> tuple[str, str]:
    """Return the backend and the queue: "default" as far as there are such, else jobsup's first ones."""
    try:
        aliases = list(queues.backends())
    except ImproperlyConfigured:  # TASKS names another backend, in tests say
        aliases = list(task_backends)
    backend = "default" if "default" in aliases else aliases[0]
    names = task_backends[backend].queues
    return backend, "default" if not names or "default" in names else min(names)


_BACKEND, _QUEUE = place()


@task(backend=_BACKEND, queue_name=_QUEUE)
def call_command(name: str, *args: str, **options: Any) -> str:
    """Run a management command and return what it wrote or printed, to stdout and stderr alike.

    A command that fails fails the job; what it wrote until then stands below the traceback.

    Args:
        name: of the command.
        args: as on the command line, e.g. "--since", "2026-01-01".
        options: as `django.core.management.call_command` takes them.
    """
    output = Output()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            management.call_command(name, *args, stdout=output, stderr=output, **options)
    except SystemExit as ended:
        if ended.code not in (None, 0):
            ended.add_note(f"{name} wrote:\n{output.kept()}")
            raise
    except Exception as error:
        if output.kept():
            error.add_note(f"{name} wrote:\n{output.kept()}")
        raise
    return output.kept()


class Output(io.TextIOBase):
    """Takes in any amount of text and keeps its head and its tail."""

    def __init__(self) -> None:
        self._head = self._tail = ""
        self._chars = 0

    def writable(self) -> bool:
        """Text may be written."""
        return True

    def write(self, text: str) -> int:
        """Take in text."""
        half = OUTPUT_CHARS_MAX // 2
        room = half - len(self._head)
        self._chars += len(text)
        self._head += text[:room] if room else ""
        self._tail = (self._tail + text[room:])[-half:]
        return len(text)

    def kept(self) -> str:
        """Return what is kept, in a form that every database accepts."""
        missing = self._chars - len(self._head) - len(self._tail)
        between = f"\n... {missing} characters left out ...\n" if missing else ""
        return bounded(self._head + between + self._tail, OUTPUT_CHARS_MAX + len(between))
