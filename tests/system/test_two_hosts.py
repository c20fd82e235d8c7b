"""Several machines and one database between them, and what a cut network does: real supervisors, namespaces, packets.

The numbers (fault 41 ...) are those of the list of faults; a code such as p7 names a trap.
"""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from jobsup.models import Status
from jobsup.models import Supervisor as Run
from tests import databases, netns, settings
from tests.databases import Database
from tests.postgres import PORT, Cluster
from tests.support import eventually, is_alive, run_django
from tests.system.jobs import assert_nobody_owns_anything, row, runs, status, wait_final
from tests.testapp import hosts, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netns import Host, Network
    from tests.support import Supervisor

pytestmark = pytest.mark.skipif(netns.why_not() is not None, reason=netns.why_not() or "")

LEASE_S = 6
PATIENT_S = 60


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A network whose hub is the machine of the database."""
    with netns.Network() as network:
        yield network


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[str]:
    """A migrated database there; its address on the network. This process reaches it by its Unix socket."""
    with tempfile.NamedTemporaryFile("w", prefix="jobsup-hba-", dir="/tmp") as hba:
        hba.write("local all all trust\nhost all all all trust\n")
        hba.flush()
        Path(hba.name).chmod(0o644)
        with network.hub.entered():
            cluster = Cluster(settings={"listen_addresses": network.hub.address, "hba_file": hba.name}).start()
        try:
            url = cluster.create_database("hosts")
            env = {"JOBSUP_TEST_DEFAULT": "postgresql", "JOBSUP_TEST_POSTGRES": url}
            done = run_django(env, "migrate", "--run-syncdb", "--verbosity=0")
            assert done.returncode == 0, done.stdout
            with databases._as_default(settings.postgresql(url)):
                yield f"postgres://postgres@{network.hub.address}:{PORT}/hosts"
        finally:
            cluster.destroy()


class Machine:
    """A host with a supervisor of one worker, which serves one queue, or all of them."""

    def __init__(self, host: Host, url: str, place: Path, lease_s: float, queue: str | None) -> None:
        self.queue = queue or "default"
        self.host, self.node = host, f"node{host.port}"
        folder = place / self.node
        folder.mkdir(mode=0o700)
        env = {
            "JOBSUP_TEST_DEFAULT": "postgresql",
            "JOBSUP_TEST_POSTGRES": url,
            "JOBSUP_TEST_RUN_DIR": str(folder),
        }
        self.supervisor: Supervisor = Database("postgresql", env).supervisor(
            "--workers", "1", *(("--queue", queue) if queue else ()), prefix=host.prefix,
            JOBSUP={"NODE": self.node, "LEASE": lease_s},
        ).start()  # fmt: skip

    @property
    def run(self) -> Run:
        """The latest run of it."""
        return Run.objects.filter(node=self.node).latest("pk")

    def enqueue(self, task: Any, *arguments: Any) -> Any:
        """Enqueue a job for its queue."""
        return task.using(queue_name=self.queue).enqueue(*arguments)

    def wait_begun(self, place: Path, job: Any) -> None:
        """Wait until a job that holds has begun here."""
        self.supervisor.wait_ready(PATIENT_S)
        (worker,) = self.supervisor.workers()
        begun = place / f"{job.id}-{worker}"
        eventually(
            lambda: begun.exists() or [run.pid for run in runs(job)] == [worker],
            PATIENT_S, "the begin of the job", self.supervisor.picture,
        )  # fmt: skip


@pytest.fixture
def machines(network: Network, server: str, tmp_path: Path) -> Iterator[Any]:
    """Machines, as many as are asked for; what they left in the database is removed."""
    with ExitStack() as stack:

        def make(lease_s: float, queue: str | None = None) -> Machine:
            machine = Machine(network.host(), server, tmp_path, lease_s, queue)
            stack.callback(machine.supervisor.close)
            stack.callback(machine.host.heal)
            return machine

        yield make
    connection.close()
    databases.empty("default")


def test_fault_41_a_network_that_is_cut_for_5_s_hurts_nobody(machines: Any, tmp_path: Path) -> None:
    """A pulled cable here, dropped packets there: no job runs twice, nobody is declared lost, and all goes on."""
    pulled, dropped = machines(30, "default"), machines(30, "other")
    jobs = [machine.enqueue(tasks.hold, str(tmp_path / "go")) for machine in (pulled, dropped)]
    for machine, job in zip((pulled, dropped), jobs, strict=True):
        machine.wait_begun(tmp_path, job)
    pulled.host.cut()
    dropped.host.drop()
    time.sleep(5)  # this is the fault
    pulled.host.heal()
    dropped.host.heal()
    (tmp_path / "go").touch()
    wait_final(pulled.supervisor, jobs, PATIENT_S)
    later = [machine.enqueue(tasks.effect) for machine in (pulled, dropped) for _ in range(10)]
    wait_final(dropped.supervisor, later, PATIENT_S)
    stop(pulled, dropped)
    for machine in (pulled, dropped):
        assert "work goes on" not in machine.supervisor.log()
    assert all((status(job), row(job).attempt, len(runs(job))) == (Status.SUCCESSFUL, 1, 1) for job in jobs + later)
    assert set(Run.objects.values_list("state", flat=True)) == {"stopped"}
    assert_nobody_owns_anything()


def test_p6_p7_fault_41_a_machine_cut_off_for_two_leases_ends_its_workers_before_others_take_its_jobs(
    machines: Any, tmp_path: Path
) -> None:
    """One is cut off, one loses its packets, one is cut off and frozen; the fourth takes over what they had.

    The first two have ended their workers while their leases last, by the database's clock. The frozen one cannot: the
    late result of its worker is refused. What an atomic job writes is there once. All three work again afterwards.
    """
    pulled, dropped, frozen = victims = [machines(LEASE_S, queue) for queue in ("default", "other", "slow")]
    hold = tasks.hold, str(tmp_path / "go")
    jobs = [pulled.enqueue(hosts.hold_atomic, str(tmp_path)), dropped.enqueue(*hold), frozen.enqueue(*hold)]
    for machine, job in zip(victims, jobs, strict=True):
        machine.wait_begun(tmp_path, job)
    workers = {machine: machine.supervisor.workers() for machine in (pulled, dropped)}
    taker = machines(LEASE_S)
    taker.supervisor.wait_ready(PATIENT_S)
    lost_runs = {machine: machine.run.pk for machine in victims}
    began = time.monotonic()
    pulled.host.cut()
    dropped.host.drop()
    frozen.host.cut()
    frozen.supervisor.signal(signal.SIGSTOP)
    for machine, pids in workers.items():
        eventually(partial(all_dead, pids), PATIENT_S, "their end", machine.supervisor.picture)
        assert beat_age_s(machine.run) < LEASE_S, machine.supervisor.picture()
        machine.supervisor.wait_log("could not be reached for")
    (tmp_path / "go").touch()
    wait_final(taker.supervisor, jobs, PATIENT_S)
    time.sleep(max(0.0, began + 2 * LEASE_S - time.monotonic()))  # this is the fault
    for machine in victims:
        machine.host.heal()
    late = f"late result refused: attempt 1 of job {jobs[2].id} is owned by somebody else by now"
    frozen.supervisor.wait_log(late, PATIENT_S)
    frozen.supervisor.signal(signal.SIGCONT)
    assert {run.state for run in Run.objects.filter(pk__in=lost_runs.values())} == {"lost"}
    taker.supervisor.stop()
    later = {machine: machine.enqueue(tasks.effect) for machine in victims}
    for machine, job in later.items():
        machine.supervisor.wait_log("a new run has begun: work goes on", PATIENT_S)
        wait_final(machine.supervisor, [job], PATIENT_S)
        assert row(job).claimed_by == machine.run.pk > lost_runs[machine]
    stop(*victims)
    assert [(status(job), row(job).attempt, row(job).result) for job in jobs] == [(Status.SUCCESSFUL, 2, "2")] * 3
    assert [len(runs(job)) for job in jobs] == [1, 2, 2], "what the atomic job wrote is there once"
    assert_nobody_owns_anything()


def all_dead(pids: list[int]) -> bool:
    """Tell whether none of these processes is left."""
    return not any(map(is_alive, pids))


def stop(*machines: Machine) -> None:
    """Stop supervisors, all at once."""
    for machine in machines:
        machine.supervisor.signal(signal.SIGTERM)
    for machine in machines:
        assert machine.supervisor.wait(PATIENT_S) == 0, machine.supervisor.picture()


def beat_age_s(run: Run) -> float:
    """Return how old the latest beat of a run is, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp() - beat_at)::float8 FROM jobsup_supervisor WHERE id = %s",
            [run.pk],
        )
        return float((cursor.fetchone() or (0,))[0])
