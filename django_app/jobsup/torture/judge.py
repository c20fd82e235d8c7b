"""Says of a history whether it is one that was promised, and how long recovery took in it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from jobsup.models import Status
from jobsup.torture.history import History, JobRow
from jobsup.torture.plan import BACKOFF_S
from jobsup.torture.witness import Run

FINAL = (Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED)
EXAMPLES = 5
WORKER_GOAL_S = 1.0
"""From the kill of a worker to the next start of its job, without the back-off that the job has declared."""
SUPERVISOR_GOAL_S = 3.0
"""From the kill of a supervisor, which is started again at once, to the next start of its jobs."""


class Promise(NamedTuple):
    """Something that must hold.

    Args:
        words: what.
        broken: how often it did not.
        examples: some of these cases, in words.
    """

    words: str
    broken: int
    examples: tuple[str, ...] = ()


class Recovery(NamedTuple):
    """How long it took until something that was killed was made up for, in seconds.

    Args:
        words: from what to what.
        measured: how many times were.
        disturbed: how many more there were, in which another fault came in between.
        goal_s: what nearly all of them are to stay below.
    """

    words: str
    measured: int
    p50_s: float | None
    p99_s: float | None
    max_s: float | None
    disturbed: int
    goal_s: float

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where nothing was measured."""
        return None if self.p99_s is None else self.p99_s <= self.goal_s


class Verdict(NamedTuple):
    """What came of it.

    Args:
        promises: all of them.
        jobs: how many of each kind ended in each way.
        doubles: how many ordinary jobs ran more than once, and of how many of these an earlier run had returned.
        causes: what the attempts that did not succeed are put down to.
        recoveries: the times.
        faults: how often each kind struck, by its words.
    """

    promises: tuple[Promise, ...]
    jobs: Mapping[str, Mapping[str, int]]
    doubles: Mapping[str, int]
    causes: Mapping[str, int]
    recoveries: tuple[Recovery, ...]
    faults: Mapping[str, int]

    @property
    def held(self) -> bool:
        """Whether every promise did."""
        return not any(promise.broken for promise in self.promises)

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "held": self.held,
            "promises": [promise._asdict() for promise in self.promises],
            "jobs": self.jobs,
            "doubles": self.doubles,
            "causes": self.causes,
            "recoveries": [{**each._asdict(), "met": each.met} for each in self.recoveries],
            "faults": self.faults,
        }


def judge(history: History) -> Verdict:
    """Return the verdict on a history."""
    view = _View(history)
    promises = (
        _promise("an acknowledged job is never lost", view.lost()),
        _promise("a job that was rolled back never was", view.never_was()),
        _promise("every job ends as its task says", view.wrong_ends()),
        _promise("an atomic job takes effect once if it is successful, else never", view.wrong_effects()),
        _promise("an attempt runs once", view.repeated_runs()),
        _promise("a job does not run twice at a time, unless its supervisor was silent for too long", view.overlaps()),
        _promise("every attempt that failed has its reason", view.untold()),
        _promise("no job has more attempts than its limit", view.too_many()),
        _promise("no claim, run, process, session or transaction is left", view.left()),
        _promise("supervisors do not end by themselves, nor by an error of their own", history.complaints),
    )
    return Verdict(
        promises,
        view.by_kind(),
        view.doubles(),
        view.causes(),
        view.recoveries(),
        dict(Counter(hit.words for hit in history.hits).most_common()),
    )


class _View:
    """A history, looked at from several sides."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._rows = {row.pk: row for row in history.rows}
        self._failed: defaultdict[int, dict[int, str]] = defaultdict(dict)
        for account in history.accounts:
            self._failed[account.job][account.attempt] = account.kind
        self._runs: defaultdict[int, list[Run]] = defaultdict(list)
        for run in history.runs:
            self._runs[run.job].append(run)

    # -- the promises: each yields the cases in which it was broken

    def lost(self) -> Iterable[str]:
        for pk, kind in self._history.acknowledged.items():
            row = self._rows.get(pk)
            if row is None:
                yield f"job {pk} ({kind}) is gone"
            elif row.status not in FINAL and not self._history.interrupted:
                yield f"job {pk} ({kind}) is still {Status(row.status).label} at attempt {row.attempt}"

    def never_was(self) -> Iterable[str]:
        return (f"job {row.pk} is there" for row in self._history.rows if row.kind == "rolled_back")

    def wrong_ends(self) -> Iterable[str]:
        for row in self._final():
            wanted = Status.FAILED if row.kind == "failing" else Status.SUCCESSFUL
            if row.status != wanted:
                yield f"job {row.pk} ({row.kind}) is {Status(row.status).label} and not {wanted.label}"
            elif row.status == Status.SUCCESSFUL and row.result != str(row.attempt):
                yield f"job {row.pk} ({row.kind}) has the result {row.result} of another attempt than {row.attempt}"
            elif row.status == Status.SUCCESSFUL and not self._ran_to_its_end(row):
                yield f"job {row.pk} ({row.kind}) is successful, and attempt {row.attempt} never returned"

    def wrong_effects(self) -> Iterable[str]:
        atomic = {row.pk: int(row.status == Status.SUCCESSFUL) for row in self._history.rows if row.kind == "atomic"}
        for pk in atomic.keys() | self._history.effects.keys():
            if (count := self._history.effects.get(pk, 0)) != (wanted := atomic.get(pk, 0)):
                yield f"job {pk} took effect {count} times and not {wanted} times"

    def repeated_runs(self) -> Iterable[str]:
        for pk, runs in self._runs.items():
            for attempt, count in Counter(run.attempt for run in runs).items():
                kind = self._rows[pk].kind if pk in self._rows else "unknown"
                workers = {run.worker for run in runs if run.attempt == attempt}
                # An atomic job may run again within its attempt, in the same worker: nothing of the first run is there.
                if count > 1 and (kind != "atomic" or len(workers) > 1):
                    yield f"job {pk} ({kind}) ran {count} times in attempt {attempt}"

    def overlaps(self) -> Iterable[str]:
        silent = [hit for hit in self._history.hits if hit.kind == "silence-supervisor"]
        for pk, runs in self._runs.items():
            for earlier, later in pairwise(runs):
                if earlier.returned_s is None or earlier.returned_s <= later.begun_s:
                    continue
                if not any(hit.pid == earlier.supervisor for hit in silent):
                    yield f"job {pk} ran in attempts {earlier.attempt} and {later.attempt} at a time"

    def untold(self) -> Iterable[str]:
        for account in self._history.accounts:
            if not account.reason.strip() or not account.kind:
                yield f"attempt {account.attempt} of job {account.job} failed without a reason"
        for row in self._final():
            told, ended_well = sorted(self._failed[row.pk]), row.status == Status.SUCCESSFUL
            if told != list(range(1, row.attempt + (not ended_well))):
                yield f"job {row.pk} ({row.kind}) had {row.attempt} attempts, and of {told} it is told how they failed"

    def too_many(self) -> Iterable[str]:
        for row in self._history.rows:
            if row.limit is not None and row.attempt - row.uncounted > row.limit:
                yield f"job {row.pk} ({row.kind}) had {row.attempt - row.uncounted} attempts of {row.limit}"

    def left(self) -> Iterable[str]:
        for what, found in self._history.remains._asdict().items():
            yield from (f"{what}: {words}" for words in found)

    # -- the figures

    def by_kind(self) -> dict[str, dict[str, int]]:
        table: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in self._history.rows:
            table[row.kind][Status(row.status).label] += 1
        return {kind: dict(table[kind]) for kind in sorted(table)}

    def doubles(self) -> dict[str, int]:
        """Count the ordinary jobs that took effect more than once: an earlier attempt had returned, or may have."""
        counts = {"ran again after they were cut short": 0, "ran again though they had returned": 0}
        for pk, runs in self._runs.items():
            if pk not in self._rows or self._rows[pk].kind == "atomic":
                continue
            earlier = [run for run in runs[:-1] if not self._raised(run)]
            returned = any(run.returned_s is not None for run in earlier)
            counts["ran again though they had returned"] += returned
            counts["ran again after they were cut short"] += bool(earlier) and not returned
        return counts

    def causes(self) -> dict[str, int]:
        by_kind = Counter(account.kind.rpartition(".")[2] for account in self._history.accounts)
        return dict(by_kind.most_common())

    def recoveries(self) -> tuple[Recovery, ...]:
        """Measure from each kill to the next start of the jobs that ran in what was killed."""
        killed = {
            "kill-worker": ("the kill of a worker to the next start of its job, less its back-off", WORKER_GOAL_S),
            "kill-supervisor": ("the kill of a supervisor to the next start of its jobs", SUPERVISOR_GOAL_S),
        }
        found: dict[str, list[float]] = {kind: [] for kind in killed}
        disturbed = Counter[str]()
        for kind, took_s, alone in self._restarts():
            if alone:
                found[kind].append(took_s)
            else:
                disturbed[kind] += 1
        return tuple(
            Recovery(
                words,
                len(found[kind]),
                _percentile(found[kind], 0.5),
                _percentile(found[kind], 0.99),
                max(found[kind], default=None),
                disturbed[kind],
                goal_s,
            )
            for kind, (words, goal_s) in killed.items()
        )

    def _restarts(self) -> Iterable[tuple[str, float, bool]]:
        """Yield for each job that was cut short by a kill its kind, how long it took, and whether nothing else was."""
        kills = {(hit.kind, hit.pid): hit for hit in self._history.hits if hit.kind.startswith("kill-")}
        for runs in self._runs.values():
            for cut, again in pairwise(runs):
                for kind, pid, delay_s in (
                    ("kill-worker", cut.worker, BACKOFF_S),
                    ("kill-supervisor", cut.supervisor, 0.0),
                ):
                    hit = kills.get((kind, pid))
                    if hit is None or again.begun_s < hit.from_s or self._raised(cut):
                        continue
                    until_s = again.begun_s
                    alone = not any(
                        other.wide and other is not hit and other.from_s < until_s and other.until_s > hit.from_s
                        for other in self._history.hits
                    )
                    yield kind, max(0.0, until_s - hit.from_s - delay_s), alone
                    break

    # -- what they have in common

    def _final(self) -> list[JobRow]:
        return [row for row in self._history.rows if row.status in FINAL]

    def _raised(self, run: Run) -> bool:
        """Tell whether an attempt ended by an exception of its own, and so was not cut short."""
        return self._failed[run.job].get(run.attempt, "").endswith("MeantToFailError")

    def _ran_to_its_end(self, row: JobRow) -> bool:
        return any(run.attempt == row.attempt and run.returned_s is not None for run in self._runs[row.pk])


def _promise(words: str, broken: Iterable[str]) -> Promise:
    cases = list(broken)
    return Promise(words, len(cases), tuple(cases[:EXAMPLES]))


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that a share of all does not exceed; None for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
