"""Threads that a job started and did not wait for."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import thread as pool

from jobsup.hygiene.leftovers import Findings
from jobsup.text import bounded

ENDING_S = 0.05
"""How long threads that are just ending are waited for, all of them together."""

_NAME_CHARS_MAX = 60
_POOL_THREAD = getattr(pool._worker, "__code__", None)  # noqa: SLF001  # no public name says that such a thread is idle


class Threads:
    """The threads that a fresh worker has.

    Daemon threads may go on: libraries keep them for later, and the end of the process does not wait for them. So may
    threads of an executor that wait for work, such as those by which asgiref runs coroutines.
    """

    def __init__(self) -> None:
        self._known = frozenset(threading.enumerate())

    def restore(self, findings: Findings) -> None:
        """Find the threads that go on."""
        new = [each for each in threading.enumerate() if not each.daemon and each not in self._known]
        if not new:
            return
        deadline = time.monotonic() + ENDING_S
        for thread in new:
            while thread.is_alive() and not _is_idle(thread):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    name = bounded(str(thread.name))[:_NAME_CHARS_MAX]
                    findings.spoiled.append(f"a thread that goes on ({name})")
                    break
                thread.join(min(left_s, ENDING_S / 10))


def _is_idle(thread: threading.Thread) -> bool:
    """Tell whether a thread of an executor waits for work: no frame is above that of its loop."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # documented, in spite of its name
    return frame is not None and frame.f_code is _POOL_THREAD
