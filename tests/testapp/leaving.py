"""Tasks that leave something to be done when their worker ends."""

from __future__ import annotations

import atexit
import logging.handlers
import sys
from pathlib import Path

from jobsup import task


@task
def at_exit(folder: str) -> None:
    """Register what is to be done at the end, one of which fails; leave text in buffers."""
    atexit.register((Path(folder) / "done").touch)
    atexit.register(lambda: 1 / 0)
    kept = logging.handlers.MemoryHandler(1000, target=logging.FileHandler(Path(folder) / "log"))
    logging.getLogger("leaving").addHandler(kept)
    logging.getLogger("leaving").warning("kept until the end")
    sys.stdout.write("half a line")
