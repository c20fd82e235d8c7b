"""For development: has the supervisor reload its workers when a file of the project's code has changed."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from django.apps import apps

LOOK_S = 0.5
"""How long between two looks at all files; and how long nothing must have changed before workers are started."""

SHARE = 10
"""How many times as long as a look took there is none: a tenth of one core at most, however large the project is."""

SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
TEMPLATES = "templates"
_SHOWN_MAX = 3

_log = logging.getLogger("jobsup.supervisor")


class Look(NamedTuple):
    """What tells that a file has changed."""

    modified_ns: int
    size: int


def roots(packages: Sequence[str], path: Sequence[str]) -> list[str]:
    """Return the directories of the project's own code, none of which is inside of another one.

    Args:
        packages: directories of apps and of the settings; what was installed by a package manager is left out.
        path: where Python looks for modules; what none of those comes from is left out, and so is "/".
    """
    own = [os.path.realpath(place) for place in packages if not SKIPPED & set(Path(place).parts)]
    homes = [home for home in map(os.path.realpath, path) if any(_is_within(place, home) for place in own)]
    homes = [home for home in homes if home != os.sep]
    places = sorted({*own, *homes}, key=len)
    return [place for place in places if not any(_is_within(place, other) for other in places if other != place)]


def look(places: Sequence[str]) -> dict[str, Look]:
    """Return every source file and template below some directories, as it is now."""
    found: dict[str, Look] = {}
    for place in places:
        _look_into(place, found, templates=False)
    return found


def changed(before: Mapping[str, Look], now: Mapping[str, Look]) -> list[str]:
    """Return which files are new, gone or different."""
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


@contextmanager
def watching() -> Iterator[None]:
    """Ask this process, the supervisor, for a reload by SIGHUP whenever the project's code changes.

    The files are looked at by a thread; it ends with the process.
    """
    own_settings = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    packages = [config.path for config in apps.get_app_configs()]
    if own_settings is not None and own_settings.__file__ is not None:
        packages.append(str(Path(own_settings.__file__).parent))
    places = roots(packages, sys.path)
    over = threading.Event()
    threading.Thread(target=_watch, args=(places, look(places), over), name="jobsup autoreload", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(places: Sequence[str], seen: Mapping[str, Look], over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        began_at = time.monotonic()
        now = look(places)
        took_s = time.monotonic() - began_at
        if changed(seen, now):
            while not over.wait(LOOK_S) and (later := look(places)) != now:  # more is being written
                now = later
            paths, seen = changed(seen, now), now
            if paths:
                _ask_for_reload(paths, over)
        over.wait(took_s * SHARE)


def _ask_for_reload(paths: Sequence[str], over: threading.Event) -> None:
    """Send ourselves SIGHUP, as soon as that is a reload and not the end."""
    while not callable(signal.getsignal(signal.SIGHUP)):
        if over.wait(LOOK_S):
            return
    more = f" and {len(paths) - _SHOWN_MAX} more" if len(paths) > _SHOWN_MAX else ""
    _log.info("the code has changed: %s%s", ", ".join(map(os.path.relpath, paths[:_SHOWN_MAX])), more)
    os.kill(os.getpid(), signal.SIGHUP)


def _look_into(directory: str, found: dict[str, Look], *, templates: bool) -> None:
    try:
        with os.scandir(directory) as entries:
            files = list(entries)
    except OSError:  # it is gone, or not ours to read
        return
    if any(entry.name == VIRTUAL_ENVIRONMENT for entry in files):
        return
    for entry in files:
        with suppress(OSError):  # gone since
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED and not entry.name.startswith("."):
                    _look_into(entry.path, found, templates=templates or entry.name == TEMPLATES)
            elif templates or entry.name.endswith(".py"):
                status = entry.stat()
                found[entry.path] = Look(status.st_mtime_ns, status.st_size)


def _is_within(place: str, home: str) -> bool:
    return os.path.commonpath([place, home]) == home
