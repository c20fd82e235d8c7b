"""The input that is on every machine: the source files of the running Python's standard library.

Writes `Document` rows; loading again changes only what differs.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.db import transaction

from demo.models import Document
from demo.sources import ROOT, decode, files

SINGLE_MODULES = "single modules"
ROWS_PER_INSERT = 200
FIELDS = ["package", "source", "unreadable", "digest"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one load did, in rows."""

    total: int
    written: int
    removed: int
    characters: int


def load(packages: Collection[str] = ()) -> Loaded:
    """Make one `Document` row of each library file, all of them or those of `packages`; rows of lost files go."""
    known = dict(Document.objects.values_list("path", "digest"))
    changed: list[Document] = []
    found: set[str] = set()
    characters = written = 0
    with transaction.atomic():
        for document in documents(packages):
            found.add(document.path)
            characters += len(document.source)
            if known.get(document.path) != document.digest:
                changed.append(document)
            if len(changed) >= ROWS_PER_INSERT:
                written += write(changed)
        written += write(changed)
        lost = [] if packages else sorted(known.keys() - found)
        for start in range(0, len(lost), ROWS_PER_INSERT):
            Document.objects.filter(path__in=lost[start : start + ROWS_PER_INSERT]).delete()
    return Loaded(len(found), written, len(lost), characters)


def write(changed: list[Document]) -> int:
    """Insert or update the rows, empty the list and return how many there were."""
    Document.objects.bulk_create(changed, update_conflicts=True, unique_fields=["path"], update_fields=FIELDS)
    count = len(changed)
    changed.clear()
    return count


def documents(packages: Collection[str]) -> Iterator[Document]:
    """Yield an unsaved row for each library file in the order of the paths."""
    for path in sorted(files()):
        name = path.relative_to(ROOT)
        package = name.parts[0] if len(name.parts) > 1 else SINGLE_MODULES
        if packages and package not in packages:
            continue
        raw = path.read_bytes()
        source, unreadable = decode(raw)
        digest = hashlib.sha256(raw).hexdigest()
        yield Document(path=name.as_posix(), package=package, source=source, unreadable=unreadable, digest=digest)
