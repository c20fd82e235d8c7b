"""Where it happens: the database of the torture is migrated, supervisors, load and nemesis run, the history is written.

Runs in a process of its own, on `jobsup.torture.settings`: `python -m jobsup.torture.arena PLAN` with the plan as JSON.
What came of it is written to the file `verdict.json` of its directory; what goes on is told on stderr.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from jobsup.torture.given import Given
from jobsup.torture.plan import KINDS, LEASE_S, SUPERVISORS, Plan, Strike, fault, orders, strikes

TURN_S = 0.02
TOLD_EVERY_S = 5.0
LOOK_EVERY_S = 0.25
WAITING_MAX = 200
"""So many jobs may be unfinished before the load waits: what was cut short is not to queue up for long."""
STUCK_S = 60.0
"""Nothing has ended for so long: what is not final by then is lost."""
TRIES_S = 20.0
"""For so long it is tried to find somebody whom a fault can hit."""
REMAINS_S = 10.0
LOAD_ENDS_S = 30.0
SILENT_S = 3 * LEASE_S
"""So long before its end must the fault have been that kept a supervisor from telling that it is alive."""
ASKED = 0, -signal.SIGKILL, -signal.SIGTERM
"""How a supervisor ends that was asked to; by TERM itself if it had not come up yet."""
ENDING = signal.SIGINT, signal.SIGTERM
JOBS_PER_FAULT = 5
"""So many jobs end between two faults at the least."""
STUNNED_MAX_S = 15.0
"""For so long a fault waits for that."""
AFTERWARDS_S = 0.3
"""Between two faults at the least, in seconds, or in parts of what lies between them on average if that is less."""
VERDICT = "verdict.json"
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)


class Arena:
    """One torture.

    Args:
        plan: what is to happen.
        given: where.
        commands: of faults that somebody has given; see `Nemesis`.
    """

    def __init__(self, plan: Plan, given: Given, commands: Mapping[str, str]) -> None:
        from jobsup.torture import clock, tasks
        from jobsup.torture.load import Load
        from jobsup.torture.nemesis import CannotStrikeError, Nemesis
        from jobsup.torture.posts import Post

        self._plan = plan
        directory = Path(given.directory)
        time_of_day = directory / "clock"
        self._posts = [
            Post(number, directory, clock.environment(time_of_day) if number == SUPERVISORS else {})
            for number in range(1, SUPERVISORS + 1)
        ]
        self._nemesis = Nemesis(self._posts, commands, time_of_day)
        possible = [kind for kind in self._nemesis.possible() if not plan.only or kind in plan.only]
        if plan.faults and not possible:
            raise CannotStrikeError(f"none of the faults {', '.join(plan.only)} can be had on this database")
        self._strikes: list[Strike] = strikes(plan, possible) if possible else []
        self._load = Load(orders(plan, [kind for kind in KINDS if kind in tasks.TASKS]), plan.jobs, plan.seconds)
        self._witness = given.witness
        self._missed = self._ended_then = 0
        self._struck_s = float("-inf")
        self._looked_s = self._told_s = 0.0
        self._unfinished, self._ended, self._ended_s = 0, -1, time.monotonic()
        self._begun_s = time.monotonic()
        self._interrupted = False

    def run(self) -> dict[str, Any]:
        """Do it all; return what came of it, as JSON can hold it."""
        from jobsup.torture.judge import judge

        try:
            self._suffer()
            self._drain()
        except KeyboardInterrupt:
            self._interrupted = True
            _say("interrupted: everything is being stopped")
        finally:
            self._stop()
        history = self._history()
        verdict = judge(history)
        return {
            **verdict.as_json(),
            "interrupted": self._interrupted,
            "seed": self._plan.seed,
            "enqueued": len(self._load.acknowledged),
            "joined": self._load.joined,
            "refused": dict(self._load.refused),
            "ended": sum(row.status > 2 for row in history.rows),
            "struck": len(history.hits),
            "missed": self._missed,
            "runs": len(history.runs),
            "seconds": round(self._stopped_s - self._begun_s, 1),
            "failure": None if self._load.failure is None else repr(self._load.failure),
        }

    # -- the time of suffering

    def _suffer(self) -> None:
        """Enqueue and strike as planned."""
        for post in self._posts:
            post.start()
        while not any(post.is_up for post in self._posts):
            self._turn()
        self._begun_s = time.monotonic()
        self._load.start()
        for strike in self._strikes:
            while (self._load.is_alive() and self._load.share < strike.at) or self._is_stunned():
                self._turn()
            self._strike(strike)
            self._ended_then, self._struck_s = self._ended, time.monotonic()
        while self._load.is_alive():
            self._turn()

    def _is_stunned(self) -> bool:
        """Tell whether next to nothing has been done since the last fault: one may strike faster than workers boot."""
        for_s = time.monotonic() - self._struck_s
        if for_s < AFTERWARDS_S * min(1.0, self._plan.seconds / max(1, self._plan.faults)):
            return True
        return for_s < STUNNED_MAX_S and self._unfinished > 0 and self._ended < self._ended_then + JOBS_PER_FAULT

    def _strike(self, strike: Strike) -> None:
        """Strike once somebody can be hit."""
        deadline = time.monotonic() + TRIES_S + fault(strike.kind).for_s[1]
        while not self._nemesis.strike(strike):
            if time.monotonic() > deadline:
                self._missed += 1
                return
            self._turn()

    def _drain(self) -> None:
        """Wait until every job is final, or nothing has become so for a long time."""
        while self._nemesis.is_holding:
            self._turn()
        self._looked_s, self._ended_s = 0.0, time.monotonic()
        self._turn()
        while self._unfinished and time.monotonic() - self._ended_s < STUCK_S + 2 * LEASE_S:
            self._turn()

    def _turn(self) -> None:
        """Heal what is due, start what has ended, look how far it has come."""
        from jobsup.torture import processes

        self._nemesis.heal()
        for post in self._posts:
            post.ensure()
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._look(now_s)
            self._looked_s = now_s
            processes.reap()
        time.sleep(TURN_S)

    def _look(self, now_s: float) -> None:
        from django.db import DatabaseError, InterfaceError

        from jobsup.models import Job
        from jobsup.torture import server

        if self._nemesis.is_locking:
            return  # it would wait for our own lock
        try:
            self._unfinished = Job.objects.filter(status__in=(0, 1, 2)).count()
        except (DatabaseError, InterfaceError):
            server.reconnect()
            return
        ended = len(self._load.acknowledged) - self._unfinished
        if ended != self._ended:
            self._ended, self._ended_s = ended, now_s
        (self._load.may_go_on.set if self._unfinished <= WAITING_MAX else self._load.may_go_on.clear)()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            _say(
                f"{now_s - self._begun_s:.0f} s: {len(self._load.acknowledged):,} of {self._plan.jobs:,} jobs "
                f"enqueued, {self._unfinished:,} not ended, {len(self._nemesis.struck)} of {len(self._strikes)} faults"
            )

    def _stop(self) -> None:
        """Stop everything; who wants it sooner kills this process."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        self._load.end()
        if self._load.ident is not None:
            self._load.join(LOAD_ENDS_S)
        self._nemesis.heal(everything=True)
        for post in self._posts:
            post.stop()

    # -- what has happened

    def _history(self) -> Any:
        from jobsup.models import FailedAttempt, Job
        from jobsup.torture import effects, server, witness
        from jobsup.torture.history import Account, History, Hit, JobRow

        self._stopped_s = time.monotonic()
        server.reconnect()
        server.wait_for_answer(REMAINS_S)
        columns = "pk", "task", "status", "attempt", "uncounted", "max_attempts", "result"
        rows = [
            JobRow(pk, task.rpartition(".")[2], *rest)
            for pk, task, *rest in Job.objects.order_by("pk").values_list(*columns).iterator()
        ]
        accounts = FailedAttempt.objects.order_by("pk").values_list(
            "job_id", "attempt", "exception_class_path", "traceback"
        )
        hits = [
            Hit(
                each.kind,
                fault(each.kind).words or each.kind,
                each.pid,
                each.from_s,
                each.until_s,
                fault(each.kind).wide,
            )
            for each in self._nemesis.struck
        ]
        return History(
            self._load.acknowledged,
            rows,
            [Account(*each) for each in accounts.iterator()],
            witness.read(self._witness),
            effects.counted(),
            hits,
            self._remains(),
            list(self._complaints()),
            self._interrupted,
        )

    def _remains(self) -> Any:
        """Return what is left; what is on its way out is given some seconds."""
        from jobsup.models import Job, Supervisor
        from jobsup.runs import OVER
        from jobsup.torture import processes, server
        from jobsup.torture.history import Remains

        deadline = time.monotonic() + REMAINS_S
        while True:
            processes.reap()
            claims = Job.objects.filter(status=2).values_list("pk", "claimed_by")
            remains = Remains(
                [f"job {pk} belongs to run {owner}" for pk, owner in claims],
                [f"{run}, {run.state}" for run in Supervisor.objects.exclude(state__in=OVER)],
                [f"process {pid} {processes.title(pid)}" for pid in processes.descendants(os.getpid())],
                [f"session {session}" for session in server.sessions()],
                [f"session {session}" for session in server.idle_in_transaction()],
            )
            if not any(remains) or time.monotonic() > deadline:
                return remains
            time.sleep(0.1)

    def _complaints(self) -> Iterator[str]:
        asked = {each.pid for each in self._nemesis.struck if each.kind in ("kill-supervisor", "deploy")}
        for post in self._posts:
            for end in post.ends[:-1]:
                if not (end.code in ASKED and end.pid in asked) and not self._was_silent(end):
                    yield f"{post.name} (pid {end.pid}) ended with exit code {end.code} though nobody had asked it to"
            for end in post.ends[-1:]:
                if end.code not in ASKED:
                    how = "did not" if end.code is None else f"ended with exit code {end.code}"
                    yield f"{post.name} (pid {end.pid}) was to stop, and {how}"
            text = post.log.read_text(errors="replace")
            for found in _TRACEBACK.finditer(text):
                last = _last_line(text[found.start() :])
                if "MeantToFailError" not in last:  # the backport of django.tasks logs those
                    yield f"{post.name} wrote a traceback: {last}"

    def _was_silent(self, end: Any) -> bool:
        """Tell whether a supervisor found its run over, and a fault explains why it had not been heard of."""
        from spawnpool.states import ExitCode

        return end.code == ExitCode.RUN_OVER and any(
            fault(each.kind).wide and each.from_s < end.at_s and each.until_s > end.at_s - SILENT_S
            for each in self._nemesis.struck
        )


def main(arguments: Sequence[str]) -> int:
    """Migrate the database, do what the plan says, write the verdict; return the exit code."""
    from jobsup.torture import processes

    for number in ENDING:  # set anew: a process that was started by "&" ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    given, wanted = Given.load(), json.loads(arguments[0])
    django.setup()
    from jobsup.torture import effects
    from jobsup.torture.nemesis import CannotStrikeError
    from jobsup.torture.posts import CannotStartError

    processes.become_subreaper()
    try:
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
        effects.make_table()
        result = Arena(Plan(**wanted["plan"]), given, wanted["commands"]).run()
    except (CannotStartError, CannotStrikeError) as error:
        result = {"impossible": str(error)}
    except KeyboardInterrupt:
        result = {"impossible": "interrupted before anything had begun"}
    (Path(given.directory) / VERDICT).write_text(json.dumps(result))
    return 0


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def _last_line(text: str) -> str:
    """Return the line of a traceback that says what was raised."""
    for line in text.splitlines()[1:]:
        if line and not line.startswith((" ", "\t")):
            return line
    return "it has no end"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
