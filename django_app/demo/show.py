"""The whole demo in one go: prepare, start the supervisor and the site, analyse, compare, sum up, end everything.

Owns two child processes and the flow between them. It must never leave one behind.
"""

import os
import platform
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from demo import analyses, library
from demo.kill import kill_a_worker
from demo.models import Analysis, Kill
from demo.processes import Child
from demo.progress import Progress, account, called, progress
from demo.terminal import Screen, progress_line, serial_line
from jobsup.models import FailedAttempt

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 120.0
END_TIMEOUT_S = 40.0
ORPHANS_END_TIMEOUT_S = 10.0
GRACE_S = 20
POLL_S = 0.15
POLL_TO_KILL_S = 0.02
KILL_FROM_SHARE = 0.25
MIGHTY_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Ctrl-C, or another wish to stop."""


class Trouble(Exception):
    """Something went wrong, in words for the user."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; without packages the whole library is taken."""

    once: bool
    workers: int
    port: int
    kill: bool
    serial: bool
    packages: list[str]
    chunk_size: int


class Show:
    """One run of the demo."""

    def __init__(self, options: Options, screen: Screen) -> None:
        """Remember what to do and where to tell of it."""
        self.options = options
        self.screen = screen
        self.supervisor: Child | None = None
        self.site: Child | None = None
        self.stops = 0
        self.address = ""

    def run(self) -> int:
        """Do everything and return the exit code."""
        before = {number: signal.signal(number, self._on_stop) for number in MIGHTY_SIGNALS}
        try:
            code = self._play()
        finally:
            clean = self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
        return code if clean else 1

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _play(self) -> int:
        try:
            self._prepare()
            self._start()
            code = self._show_one()
            if not self.options.once:
                self._stay()
        except Stopped:
            return 0
        except Trouble as trouble:
            self.screen.line(f"\nThe demo failed: {trouble}")
            return 1
        return code

    # ---- set-up ------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Bring the tables up to date and load the documents."""
        self.screen.line(f"jobsup demo: Python {platform.python_version()}, Django {django.__version__}\n")
        call_command("migrate", verbosity=0, interactive=False)
        self.screen.pair("database", f"{connection.display_name}, {connection.settings_dict['NAME']}")
        began = time.monotonic()
        loaded = library.load(self.options.packages)
        took = time.monotonic() - began
        size = f"{loaded.characters / 1e6:.1f} million characters"
        news = f"{loaded.written:,} loaded in {took:.1f} s" if loaded.written else "loaded before"
        self.screen.pair("library", f"{loaded.total:,} source files of the standard library, {size}, {news}")
        left = Analysis.objects.filter(finished_at=None, serial_of=None).count()
        if left:
            self.screen.pair("left over", f"{left} unfinished before: the jobs waited in the database and go on now")
        self._check()

    def _start(self) -> None:
        """Start the supervisor and the site, and wait until both are ready."""
        port = free_port(self.options.port)
        self.address = f"http://{HOST}:{port}/"
        workers, name = str(self.options.workers), f"demo-{port}"
        self.supervisor = Child(
            "supervisor", "jobsupervisor", "--workers", workers, "--name", name, "--grace", str(GRACE_S)
        )
        log = settings.DEMO_DIR / f"site-{port}.log"
        self.site = Child("site", "runserver", "--noreload", f"{HOST}:{port}", log=log)
        self._await_ready(self.supervisor)
        self.screen.pair("supervisor", f"pid {self.supervisor.process.pid}, {workers} workers ready")
        self._until(self._site_answers, "the site did not answer")
        self.screen.pair("site", self.address)

    def _await_ready(self, supervisor: Child) -> None:
        """Wait for the supervisor's word that its workers are ready."""
        self._until(lambda: any("on duty" in line for line in supervisor.last), "no worker became ready")

    def _site_answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.address, timeout=5) as answer:  # noqa: S310 - an address of our own
                return bool(answer.status == 200)
        except OSError:
            return False

    def _until(self, fact: Callable[[], bool], otherwise: str) -> None:
        """Wait for a fact, and give up in words."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not fact():
            if time.monotonic() > deadline:
                raise Trouble(f"{otherwise} within {START_TIMEOUT_S:.0f} s.")
            self._pause(POLL_S)

    # ---- the analysis ------------------------------------------------------------------------------------------------

    def _show_one(self) -> int:
        """Start one analysis, watch it, run it serially, sum up; return 0 when all is as it should be."""
        chosen = self.options.packages or [name for name, _ in analyses.packages()]
        unknown = set(chosen) - {name for name, _ in analyses.packages()}
        if unknown or not chosen:
            raise Trouble(f"no documents are loaded of: {', '.join(sorted(unknown)) or 'any package'}.")
        analysis = analyses.start(chosen, self.options.chunk_size)
        self.screen.line(f"\nAnalysis {analysis.pk}: {self.address}analysis/{analysis.pk}/")
        now = self._watch(analysis, kill=self.options.kill)
        accounted = self._account(analysis)
        equal = self._compare(analysis) if self.options.serial else None
        self._sum_up(analysis, now, equal=equal)
        return 0 if now.state == "finished" and accounted and equal is not False else 1

    def _watch(self, analysis: Analysis, *, kill: bool) -> Progress:
        """Show the progress until the end, and kill a worker on the way if asked to."""
        told: set[str] = set()
        moved, done = time.monotonic(), -1
        while True:
            now = progress(analysis)
            for event in now.events:
                if event.text not in told:
                    told.add(event.text)
                    self.screen.line(f"  {event.at:6.1f} s  {event.text}")
            if now.ended:
                return now
            self.screen.status(progress_line(now))
            aiming = kill and now.share >= KILL_FROM_SHARE
            if aiming:
                kill = kill_a_worker(analysis, "demo") is None
            if now.documents_done != done:
                moved, done = time.monotonic(), now.documents_done
            if time.monotonic() - moved > STALL_TIMEOUT_S:
                raise Trouble(f"nothing has moved for {STALL_TIMEOUT_S:.0f} s.")
            self._pause(POLL_TO_KILL_S if aiming else POLL_S)

    def _account(self, analysis: Analysis) -> bool:
        """Wait until each kill is accounted for and return whether all are."""
        deadline = time.monotonic() + 10
        while open_kills(analysis):
            if time.monotonic() > deadline:
                return False
            self._pause(POLL_S)
        return True

    def _compare(self, analysis: Analysis) -> bool:
        """Run the analysis serially in this very process and return whether both results are equal."""
        serial = analyses.prepare_serial(analysis)
        if serial is None:
            raise Trouble("a serial run is under way already.")
        self.screen.line("\nThe same rows once more, serially, in this process")
        began = time.monotonic()

        def after_chunk(done: int) -> None:
            self.screen.status(serial_line(done, analysis.document_count, time.monotonic() - began))
            self._pause(0)

        analyses.run_serially(serial, after_chunk)
        return analyses.differences(analysis, serial) == 0

    def _sum_up(self, analysis: Analysis, now: Progress, *, equal: bool | None) -> None:
        """Tell what came out."""
        analysis.refresh_from_db()
        tell = self.screen.pair
        self.screen.line("\nSummary")
        tell("documents", f"{now.documents_done:,} of {now.documents:,} in {now.chunks} chunks, {now.state}")
        parallel = analysis.seconds or 0.0
        tell("parallel", f"{parallel:.1f} s with {self.options.workers} workers, each on a connection of its own")
        if equal is not None:
            serial = Analysis.objects.get(serial_of=analysis).seconds or 0.0
            times = f", {serial / parallel:.1f} times as long" if parallel else ""
            tell("serial", f"{serial:.1f} s in one process{times}")
            tell("results", "equal, document by document" if equal else "DIFFERENT")
            tell("machine", f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        kills = Kill.objects.filter(chunk__analysis=analysis).select_related("chunk").order_by("pk")
        for kill in kills:
            tell("killed", f"pid {kill.pid} by SIGKILL, in the middle of {kill.chunk}, attempt {kill.attempt}")
            lost = FailedAttempt.objects.filter(job_id=kill.chunk.job_id or 0, attempt=kill.attempt).first()
            tell("accounted", account(lost) if lost else "NOT ACCOUNTED FOR")
            if kill.chunk.finished_at:
                tell("made good", f"{kill.chunk} was done by attempt {kill.chunk.attempt}, {called(kill.chunk.worker)}")
        if self.options.kill and not kills:
            tell("killed", "nobody: it was all over too soon")

    # ---- staying and ending ------------------------------------------------------------------------------------------

    def _stay(self) -> NoReturn:
        """Stay until Ctrl-C, and show the progress of what the page starts."""
        self.screen.line(f"\nOpen {self.address} and start your own. Ctrl-C drains and ends everything.")
        newest = Analysis.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        while True:
            fresh = Analysis.objects.filter(pk__gt=newest, serial_of=None).order_by("pk").first()
            if fresh:
                newest = fresh.pk
                self.screen.line(f"\nAnalysis {fresh.pk}, started from the page")
                self._watch(fresh, kill=False)
            self._pause(4 * POLL_S)

    def _pause(self, seconds: float) -> None:
        """Wait, pass on what the supervisor says, and notice a wish to stop or a child that is gone."""
        if self.supervisor:
            self._pass_on(self.supervisor.lines(seconds))
        else:
            time.sleep(seconds)
        self._check()

    def _check(self) -> None:
        if self.stops:
            raise Stopped
        for child in (self.supervisor, self.site):
            if child and child.ended:
                self._pass_on(child.lines())
                raise Trouble(f"the {child.name} {child.in_words()}. Its last words:\n{child.last_words()}")

    def _pass_on(self, lines: list[str]) -> None:
        for line in lines:
            self.screen.line(f"  supervisor | {line}")

    def _end(self) -> bool:
        """Drain the supervisor, stop the site, wait for both and return whether nothing is left."""
        children = [child for child in (self.supervisor, self.site) if child]
        if not children:
            return True
        self.screen.line("\nEnding: running jobs finish, the rest stays in the database.")
        stops_before = self.stops
        for child in children:
            child.send(signal.SIGTERM)
        orphaned = any(child.ended for child in children)
        deadline = time.monotonic() + (ORPHANS_END_TIMEOUT_S if orphaned else END_TIMEOUT_S)
        while any(not child.ended or child.left_behind() for child in children):
            if self.supervisor:
                self._pass_on(self.supervisor.lines(0.05))
            if self.stops > stops_before:
                children[0].send(signal.SIGQUIT)
                stops_before = self.stops
            if time.monotonic() > deadline:
                break
        left = [pid for child in children for pid in child.left_behind()]
        for child in children:
            child.clear()
        self.screen.line(f"Killed what was left: {left}" if left else "Nothing is left running.")
        return not left


def open_kills(analysis: Analysis) -> list[Kill]:
    """Return the kills that jobsup has not accounted for yet."""
    kills = Kill.objects.filter(chunk__analysis=analysis).select_related("chunk")
    accounted = set(
        FailedAttempt.objects.filter(job_id__in=analysis.chunks.values("job_id")).values_list("job_id", "attempt")
    )
    return [kill for kill in kills if (kill.chunk.job_id, kill.attempt) not in accounted]


def free_port(wanted: int) -> int:
    """Return the first free port from `wanted` upwards."""
    for port in range(wanted, min(wanted + 100, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise Trouble(f"no port is free from {wanted} on.")
