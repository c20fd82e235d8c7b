"""What `ps` shows: the title of the supervisor and of each worker."""

from __future__ import annotations

import setproctitle


def set_supervisor_title(program: str, name: str, text: str) -> None:
    """Show "program: supervisor name text"."""
    setproctitle.setproctitle(f"{program}: supervisor {name} {text}".rstrip())


def set_worker_title(program: str, number: int, doing: str) -> None:
    """Show "program: worker 2 doing"."""
    setproctitle.setproctitle(f"{program}: worker {number} {doing}")
