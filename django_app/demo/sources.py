"""The source files of the running Python's standard library, as text. Pure: reads files, knows no database."""

import io
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(sysconfig.get_path("stdlib"))
FOREIGN_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}
REASON_CHARS_MAX = 300


def files() -> Iterator[Path]:
    """Yield the Python files that belong to the library itself."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in FOREIGN_FOLDERS]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def decode(raw: bytes) -> tuple[str, str]:
    """Return the text of a source file, or no text and the reason: some test files are broken on purpose.

    A NUL cannot be stored by PostgreSQL and cannot be in Python source either, so it counts as unreadable.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
        text.encode()
    except (SyntaxError, UnicodeError) as problem:
        return "", f"{type(problem).__name__}: {problem}"[:REASON_CHARS_MAX].replace("\0", "?")
    if "\0" in text:
        return "", "ValueError: source code cannot contain null bytes"
    return text.replace("\r\n", "\n").replace("\r", "\n"), ""
