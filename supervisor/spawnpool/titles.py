"""What `ps` shows: the title of the supervisor and of each worker."""

from __future__ import annotations

import setproctitle


def set_supervisor_title(program: str, name: str, text: str) -> None:
    """Show "program: supervisor name text"."""
    setproctitle.setproctitle(f"{program}: supervisor {name} {text}".rstrip())


def set_worker_title(program: str, number: int, pool: str, doing: str) -> None:
    """Show "program: worker 2 doing", or "program: worker 2 (pool) doing" where there are several pools."""
    setproctitle.setproctitle(f"{program}: worker {number} {f'({pool}) ' if pool else ''}{doing}")
