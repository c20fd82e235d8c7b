"""What the command prints: tables and sentences for people, JSON for programs, and the question before what destroys.

On a terminal tables keep to its width, and only what may be shortened is. Elsewhere nothing is shortened and nothing
but the text is written.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import IO, Any, NamedTuple

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobsup import text as words
from jobsup.cli.filters import WRONG_USAGE
from jobsup.text import printable

_BLANKS = re.compile(r" +\n")
WIDE = 10_000
"""As wide as output can be that is no terminal's."""


class Column(NamedTuple):
    """A column of a table.

    Args:
        title: its heading.
        right: whether it is a number.
        whole: whether it is never shortened.
    """

    title: str
    right: bool = False
    whole: bool = False


class _Sink:
    """Django's output as a file: it adds no line ends of its own, and no blanks before them that fill a terminal."""

    def __init__(self, stdout: OutputWrapper) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        plain = text if self.isatty() else _BLANKS.sub("\n", text)
        self._stdout.write(plain, ending="")
        return len(text)

    def flush(self) -> None:
        self._stdout.flush()

    def isatty(self) -> bool:
        return self._stdout.isatty()


class _Console(Console):
    """One that leaves it to the command what happens when the reader has gone."""

    def on_broken_pipe(self) -> None:
        """Do nothing about it."""
        raise BrokenPipeError


class Screen:
    """Where an action prints.

    Args:
        stdout: the command's.
        stderr: for what is no answer.
        stdin: where the answer to a question comes from.
        colour: False for none, True also where there is no terminal, None for what the terminal has.
        as_json: whether answers are JSON.
    """

    def __init__(
        self, stdout: OutputWrapper, stderr: OutputWrapper, *, stdin: IO[str] | None = None,
        colour: bool | None = None, as_json: bool = False,
    ) -> None:  # fmt: skip
        self._stdout, self._stderr, self._stdin = stdout, stderr, stdin or sys.stdin
        self.as_json = as_json
        wide = not stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit()
        sink: Any = _Sink(stdout)
        self.console = _Console(
            file=sink, width=WIDE if wide else None, no_color=colour is False, force_terminal=colour,
            highlight=False, markup=False, emoji=False,
        )  # fmt: skip

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at it."""
        return self._stdout.isatty()

    def say(self, words: str = "") -> None:
        """Print a line, however long it is."""
        self._stdout.write(printable(words))

    def remark(self, words: str) -> None:
        """Write a line that is no answer."""
        self._stderr.write(printable(words), str)

    def json(self, value: Any) -> None:
        """Print a value as one line of JSON."""
        self._stdout.write(json.dumps(value, default=_plain))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
        """Print a table."""
        self.console.print(table_of(columns, rows, title=title))

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is destroyed; the question stands on stderr.

        Args:
            question: what is going to be done, without its question mark.
            yes: whether the answer was given with the command.

        Raises:
            CommandError: it was declined, or nobody is there who could answer.
        """
        if yes:
            return
        if self._stdin is None or not self._stdin.isatty():
            raise CommandError(
                f"{question}: nobody is here to ask (stdin is no terminal); say --yes if that is meant",
                returncode=WRONG_USAGE,
            )
        self._stderr.write(f"{printable(question)}? [y/N] ", str, ending="")
        self._stderr.flush()
        if self._stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("nothing was changed", returncode=1)


def table_of(columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
    """Return a table; values are shown as `shown` has them."""
    cells = [[shown(value) for value in row] for row in rows]
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="bold",
        padding=(0, 2, 0, 0),
    )  # fmt: skip
    for number, column in enumerate(columns):
        widest = max([len(column.title), *(len(row[number]) for row in cells)])
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis",
            min_width=widest if column.whole else min(widest, 4),
        )  # fmt: skip
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def shown(value: Any) -> str:
    """Return a value of a table as text."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value)
        case float():
            return f"{value:g}"
    return printable(str(value)).replace("\n", " ")


def moment(value: datetime | None) -> str:
    """Return a moment in the project's time zone, to the second."""
    if value is None:
        return ""
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return local.strftime("%Y-%m-%d %H:%M:%S") + (local.strftime(" %Z") if settings.USE_TZ else "")


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units, such as "3 h 12 min", or in milliseconds; "" for none."""
    if seconds is None:
        return ""
    return f"{max(seconds, 0) * 1000:.0f} ms" if seconds < 1 else words.duration(seconds)


def number(count: int, *, more: bool = False) -> str:
    """Return a count for a reader; `more` says that the counting was given up there."""
    return f"{'>= ' * more}{count:,}"


def jobs(count: int, *, more: bool = False) -> str:
    """Return so many jobs in words."""
    return f"{number(count, more=more)} job{'s' * (count != 1)}"


def _plain(value: Any) -> Any:
    """Return what JSON has for a value that it does not know."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
