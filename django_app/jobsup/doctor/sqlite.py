"""What SQLite tells of its file and of this process's connection to it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from django.db import connections

MOUNTS = Path("/proc/self/mounts")
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs")
SYNCHRONOUS_OFF = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A SQLite database as jobsup finds it.

    Args:
        version: of SQLite.
        in_memory: whether there is no file at all.
        filesystem: the kind of filesystem that the file is on, "" if that is not known.
        journal_mode: as the pragma tells it.
        busy_timeout_ms: how long a writer waits for another one.
        synchronous: as the pragma tells it, 0 for off.
        transaction_mode: how Django begins transactions.
    """

    version: tuple[int, ...]
    in_memory: bool
    filesystem: str
    journal_mode: str
    busy_timeout_ms: int
    synchronous: int
    transaction_mode: str | None


def look(alias: str) -> File:
    """Ask SQLite behind an alias."""
    connection = connections[alias]
    answers = {}
    with connection.cursor() as cursor:
        for pragma in ("journal_mode", "busy_timeout", "synchronous"):
            cursor.execute(f"PRAGMA {pragma}")
            (answers[pragma],) = cursor.fetchone()
        cursor.execute("PRAGMA database_list")
        file = next(row[2] for row in cursor.fetchall() if row[1] == "main")
    return File(
        version=sqlite3.sqlite_version_info,
        in_memory=not file,
        filesystem=filesystem(Path(file), MOUNTS.read_text(errors="replace")) if file and MOUNTS.exists() else "",
        journal_mode=str(answers["journal_mode"]).lower(),
        busy_timeout_ms=int(answers["busy_timeout"]),
        synchronous=int(answers["synchronous"]),
        transaction_mode=getattr(connection, "transaction_mode", None),
    )


def filesystem(file: Path, mounts: str) -> str:
    """Return the kind of filesystem that a file is on.

    Args:
        file: its absolute path.
        mounts: what the kernel lists.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        place = Path(fields[1].replace("\\040", " "))
        if (file == place or place in file.parents) and len(place.parts) >= best:
            best, kind = len(place.parts), fields[2]
    return kind
