"""The terminal: lines that stay, and on a real terminal one line at the bottom that moves.

In a pipe or a file the moving line is written plainly, about once a second.
"""

import shutil
import time
from typing import TextIO

from demo.progress import Progress

BAR_WIDTH = 14
PLAIN_INTERVAL_S = 1.0


class Screen:
    """Writes to one stream."""

    def __init__(self, stream: TextIO) -> None:
        """Remember the stream and whether it is a terminal."""
        self.stream = stream
        self.moving = stream.isatty()
        self._shown = False
        self._plain_at = 0.0

    def line(self, text: str = "") -> None:
        """Write a line that stays."""
        self._clear()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def pair(self, name: str, text: str) -> None:
        """Write a name and what there is to say about it."""
        self.line(f"  {name:<11} {text}")

    def status(self, text: str) -> None:
        """Show a line until the next one comes; in a pipe only now and then."""
        if self.moving:
            self._clear()
            width = shutil.get_terminal_size().columns - 1
            self.stream.write(text[:width])
            self.stream.flush()
            self._shown = True
        elif time.monotonic() - self._plain_at >= PLAIN_INTERVAL_S:
            self._plain_at = time.monotonic()
            self.line(text)

    def _clear(self) -> None:
        if self._shown:
            self.stream.write("\r\x1b[2K")
            self._shown = False


def bar(share: float) -> str:
    """Return a bar of BAR_WIDTH characters and the percentage."""
    full = round(share * BAR_WIDTH)
    return f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] {share:4.0%}"


def progress_line(now: Progress) -> str:
    """Return one line that tells how far it is and who works on what."""
    running = sorted(now.running, key=lambda one: one.worker)
    who = "  ".join(f"{one.worker}: chunk {one.chunk}" for one in running) or "waiting for a worker"
    return f"  {bar(now.share)}  {now.documents_done:,} at {now.per_second:,.0f}/s  {who}"


def serial_line(done: int, documents: int, seconds: float) -> str:
    """Return one line that tells how far the serial run is."""
    rate = done / seconds if seconds else 0.0
    return f"  {bar(done / documents if documents else 1.0)}  {done:,} at {rate:,.0f}/s  one process"
