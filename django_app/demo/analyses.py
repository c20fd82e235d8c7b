"""What an analysis is made of: cut into chunks, work on one, end, do it all again serially, compare.

The same `work` runs in a job and in the serial run; only who calls it differs.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields

from django.db import transaction
from django.utils import timezone

from demo.examine import Facts, examine
from demo.models import Analysis, Chunk, Document, Finding

CHUNK_SIZES = (10, 25, 50, 100)
FACTS = [fact.name for fact in fields(Facts)]


def packages() -> list[tuple[str, int]]:
    """Return the packages that are loaded, the largest first, each with its number of documents."""
    counts: dict[str, int] = {}
    for package in Document.objects.values_list("package", flat=True):
        counts[package] = counts.get(package, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def start(chosen: Sequence[str], chunk_size: int) -> Analysis:
    """Create an analysis and send its chunks as jobs, all in one transaction: either everything is sent or nothing."""
    from demo.tasks import analyse

    with transaction.atomic():
        analysis = Analysis.objects.create(packages=list(chosen), chunk_size=chunk_size)
        chunks = cut(analysis)
        for chunk in chunks:
            chunk.job_id = int(analyse.enqueue(analysis.pk, chunk.document_ids).id)
        Chunk.objects.bulk_create(chunks)
        if not chunks:
            Analysis.objects.filter(pk=analysis.pk).update(finished_at=timezone.now())
    return analysis


def cut(analysis: Analysis) -> list[Chunk]:
    """Return unsaved chunks that hold the documents of the analysis, and note the totals in its row."""
    rows = Document.objects.filter(package__in=analysis.packages).order_by("package", "path")
    documents = list(rows.values_list("pk", "path"))
    chunks: list[Chunk] = []
    for first in range(0, len(documents), analysis.chunk_size):
        part = documents[first : first + analysis.chunk_size]
        label = f"{part[0][1]} \N{HORIZONTAL ELLIPSIS} {part[-1][1]}"
        ids = [pk for pk, _ in part]
        chunks.append(Chunk(analysis=analysis, number=len(chunks) + 1, label=label[:200], document_ids=ids))
    analysis.document_count, analysis.chunk_count = len(documents), len(chunks)
    analysis.save(update_fields=["document_count", "chunk_count"])
    return chunks


def work(chunk: Chunk, document_ids: list[int], *, attempt: int, worker: str, pid: int) -> int:
    """Examine the documents of one chunk and store what was found; return how many there were.

    A chunk that an earlier attempt finished is left as it is: a worker may die after its commit and before its job is
    recorded as done.
    """
    if chunk.finished_at is not None:
        return len(document_ids)
    now = timezone.now()
    Analysis.objects.filter(pk=chunk.analysis_id, started_at=None).update(started_at=now)
    Chunk.objects.filter(pk=chunk.pk).update(started_at=now, attempt=attempt, worker=worker, pid=pid)
    findings = [
        Finding(analysis_id=chunk.analysis_id, document=document, **asdict(facts_of(document)))
        for document in Document.objects.filter(pk__in=document_ids).order_by("pk")
    ]
    store(chunk, findings)
    return len(findings)


def facts_of(document: Document) -> Facts:
    """Return the facts about one document."""
    if document.unreadable:
        return Facts(error=document.unreadable)
    return examine(document.source)


def store(chunk: Chunk, findings: list[Finding]) -> None:
    """Write the findings and the end of the chunk, and of the analysis if this was the last one, in one commit.

    The lock on the analysis puts the ends of its chunks in a row, so that exactly one of them is the last; SQLite does
    the same by its one writer.
    """
    with transaction.atomic():
        analysis = Analysis.objects.select_for_update().get(pk=chunk.analysis_id)
        now = timezone.now()
        if not Chunk.objects.filter(pk=chunk.pk, finished_at=None).update(finished_at=now):
            return
        Finding.objects.bulk_create(findings)
        if not analysis.chunks.filter(finished_at=None).exists():
            Analysis.objects.filter(pk=analysis.pk).update(finished_at=now)


def prepare_serial(analysis: Analysis) -> Analysis | None:
    """Create the serial run of a finished analysis, over the same rows; None while an earlier one goes on."""
    with transaction.atomic():
        Analysis.objects.select_for_update().get(pk=analysis.pk)
        if Analysis.objects.filter(serial_of=analysis, finished_at=None).exists():
            return None
        Analysis.objects.filter(serial_of=analysis).delete()
        counts = {"document_count": analysis.document_count, "chunk_count": analysis.chunk_count}
        shape = {"packages": analysis.packages, "chunk_size": analysis.chunk_size} | counts
        serial = Analysis.objects.create(serial_of=analysis, **shape)
        numbered = analysis.chunks.values_list("number", "label", "document_ids")
        Chunk.objects.bulk_create(
            Chunk(analysis=serial, number=number, label=label, document_ids=ids) for number, label, ids in numbered
        )
    return serial


def run_serially(serial: Analysis, after_chunk: Callable[[int], None] = lambda done: None) -> None:
    """Work on one chunk after the other in this process; a run that was cut short goes on where it was.

    `after_chunk` is called with the number of documents done; what it raises ends the run.
    """
    done = 0
    for chunk in serial.chunks.order_by("number"):
        done += work(chunk, chunk.document_ids, attempt=1, worker="serial", pid=os.getpid())
        after_chunk(done)
    serial.refresh_from_db()


def differences(one: Analysis, other: Analysis) -> int:
    """Return in how many documents two analyses differ; a document that only one of them has counts too."""
    left, right = (
        {row[0]: row[1:] for row in analysis.findings.values_list("document_id", *FACTS)} for analysis in (one, other)
    )
    return sum(left.get(document) != right.get(document) for document in left.keys() | right.keys())
