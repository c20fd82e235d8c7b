"""How far an analysis is, told once for the page (as JSON) and for the terminal.

Only reads. What the demo itself wrote down (chunks, kills) and what jobsup accounted (jobs, failed attempts) are put
side by side here, on one clock that starts with the analysis.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from django.utils import timezone

from demo.models import Analysis, Chunk, Kill
from jobsup.models import FailedAttempt, Job, Status, Supervisor

OVER = ("stopped", "lost")
SENTENCE_CHARS_MAX = 400
WORKER = re.compile(r":(?P<name>worker \d+):(?P<pid>\d+)$")


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt at one chunk, in seconds since the analysis was created; without an end it goes on."""

    worker: str
    pid: int | None
    chunk: int
    label: str
    documents: int
    attempt: int
    begin: float
    end: float | None
    state: str  # "running", "finished" or "lost"


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling: `kind` is "note", "kill", "lost", "again" or "end"."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """All there is to say about an analysis now; `state` is "waiting", "running", "finished" or "stuck"."""

    state: str
    documents: int
    documents_done: int
    chunks: int
    chunks_done: int
    seconds: float
    per_second: float
    supervisor: str
    bars: list[Bar] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Return how much is done, between 0 and 1."""
        return self.documents_done / self.documents if self.documents else 1.0

    @property
    def ended(self) -> bool:
        """Return whether nothing more will happen."""
        return self.state in ("finished", "stuck")

    @property
    def running(self) -> list[Bar]:
        """Return who works on what now."""
        return [bar for bar in self.bars if bar.state == "running"]


class Rows:
    """The rows of one analysis, read once, and its clock."""

    def __init__(self, analysis: Analysis) -> None:
        """Read everything that the answer needs."""
        self.analysis = Analysis.objects.get(pk=analysis.pk)
        self.chunks = list(self.analysis.chunks.all())
        self.kills = list(Kill.objects.filter(chunk__analysis=analysis).select_related("chunk").order_by("pk"))
        jobs = [chunk.job_id for chunk in self.chunks if chunk.job_id is not None]
        attempts = FailedAttempt.objects.filter(job_id__in=jobs)
        self.lost = {(attempt.job_id, attempt.attempt): attempt for attempt in attempts}
        self.now = timezone.now()

    def at(self, moment: datetime) -> float:
        """Return `moment` in seconds since the analysis was created, never negative."""
        return round(max((moment - self.analysis.created_at).total_seconds(), 0.0), 3)

    def lost_attempts(self, chunk: Chunk) -> list[FailedAttempt]:
        """Return the attempts at a chunk that did not end well, the first one first."""
        return [self.lost[key] for key in sorted(self.lost) if key[0] == chunk.job_id]


def progress(analysis: Analysis) -> Progress:
    """Look at the rows and return how far the analysis is."""
    rows = Rows(analysis)
    analysis = rows.analysis
    done = [chunk for chunk in rows.chunks if chunk.finished_at]
    documents_done = sum(len(chunk.document_ids) for chunk in done)
    end = analysis.finished_at or rows.now
    worked = rows.at(end) - rows.at(analysis.started_at or end)
    return Progress(
        state=state(rows),
        documents=analysis.document_count,
        documents_done=documents_done,
        chunks=analysis.chunk_count,
        chunks_done=len(done),
        seconds=rows.at(end),
        per_second=round(documents_done / worked, 1) if worked > 0 else 0.0,
        supervisor=supervisor_in_words(),
        bars=[bar for chunk in rows.chunks for bar in bars(rows, chunk)],
        events=events(rows),
    )


def state(rows: Rows) -> str:
    """Return "finished", "stuck" when a job of an open chunk has failed for good, else "running" or "waiting"."""
    if rows.analysis.finished_at:
        return "finished"
    open_jobs = [chunk.job_id for chunk in rows.chunks if not chunk.finished_at and chunk.job_id is not None]
    stuck = Job.objects.filter(pk__in=open_jobs, status__in=(Status.FAILED, Status.CANCELLED)).exists()
    if stuck:
        return "stuck"
    return "running" if rows.analysis.started_at else "waiting"


def supervisor_in_words() -> str:
    """Return which supervisor is alive, or an empty text when none has shown a sign of life lately."""
    now = timezone.now()
    begun = Supervisor.objects.exclude(state__in=OVER).order_by("pk")
    alive = [row for row in begun if now - row.beat_at < timedelta(seconds=row.lease_s)]
    return ", ".join(f"{row.name} on {row.node} (pid {row.pid}), {row.state}" for row in alive)


def bars(rows: Rows, chunk: Chunk) -> list[Bar]:
    """Return one bar for each attempt at the chunk that has begun."""
    bar = partial(Bar, chunk=chunk.number, label=chunk.label, documents=len(chunk.document_ids))
    found = []
    for lost in rows.lost_attempts(chunk):
        begin, end = rows.at(lost.started_at or lost.ended_at), rows.at(lost.ended_at)
        who = called(lost.worker)
        found.append(bar(who, pid_in(lost.worker), attempt=lost.attempt, begin=begin, end=end, state="lost"))
    if chunk.started_at and (chunk.finished_at or (chunk.job_id, chunk.attempt) not in rows.lost):
        begin, until = rows.at(chunk.started_at), rows.at(chunk.finished_at) if chunk.finished_at else None
        phase = "finished" if chunk.finished_at else "running"
        who = called(chunk.worker)
        found.append(bar(who, chunk.pid, attempt=chunk.attempt, begin=begin, end=until, state=phase))
    return found


def events(rows: Rows) -> list[Event]:
    """Return what happened, in order: the start, each kill and how it was accounted for, the end."""
    analysis = rows.analysis
    sent = f"{analysis.document_count:,} documents sent as primary keys, in {analysis.chunk_count} chunks."
    told = [Event(0.0, "note", sent)]
    told += [Event(rows.at(kill.sent_at), "kill", f"{capitalised(str(kill))}.") for kill in rows.kills]
    for chunk in rows.chunks:
        told += chunk_events(rows, chunk)
    if analysis.finished_at:
        told.append(Event(rows.at(analysis.finished_at), "end", f"Complete: all {analysis.chunk_count} chunks are in."))
    return sorted(told, key=lambda event: event.at)


def chunk_events(rows: Rows, chunk: Chunk) -> list[Event]:
    """Return what is worth telling about one chunk: nothing, unless an attempt at it was lost."""
    lost = rows.lost_attempts(chunk)
    told = [Event(rows.at(attempt.ended_at), "lost", account(attempt)) for attempt in lost]
    if not lost or not chunk.started_at or chunk.attempt <= lost[0].attempt:
        return told
    name = capitalised(str(chunk))
    again = f"{name} was begun again by {called(chunk.worker)} (pid {chunk.pid}), attempt {chunk.attempt}."
    told.append(Event(rows.at(chunk.started_at), "again", again))
    if chunk.finished_at:
        told.append(Event(rows.at(chunk.finished_at), "again", f"{name} is complete."))
    return told


def account(attempt: FailedAttempt) -> str:
    """Return how jobsup accounts for a failed attempt."""
    return f"Job {attempt.job_id}, attempt {attempt.attempt}: {sentence(attempt)}"


def called(worker: str) -> str:
    """Return the short name of a worker, "worker 2" of "node:worker 2:812"; other names stay as they are."""
    found = WORKER.search(worker)
    return found["name"] if found else worker


def pid_in(worker: str) -> int | None:
    """Return the process id in the full name of a worker."""
    found = WORKER.search(worker)
    return int(found["pid"]) if found else None


def sentence(attempt: FailedAttempt) -> str:
    """Return why an attempt failed: for a lost worker all that is known, for an exception its last line."""
    lines = attempt.traceback.strip().splitlines() or [attempt.exception_class_path]
    return lines[-1][:SENTENCE_CHARS_MAX]


def capitalised(text: str) -> str:
    """Return the text with its first letter as a capital and the rest as it is."""
    return text[:1].upper() + text[1:]
