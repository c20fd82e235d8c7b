"""The state of supervisors, workers and queues at a moment, from the database and from the supervisors of this host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from jobsup.cli.desk import Desk
from jobsup.figures import Figures, figures, read
from jobsup.models import Job, Status
from jobsup.neighbours import status_of
from jobsup.queries import supervisors

SEEN_MAX = 5_000
"""How far each queue is counted, once a second."""
WORKERS_MAX = 200
"""How many running jobs are shown."""
MINUTE_S = 60.0


def picture(desk: Desk) -> dict[str, Any]:
    """Return the state of everything; see the reference of `jobs top --json`."""
    counted = read(desk.store, most=SEEN_MAX, timed=0)
    queues = figures(counted, "queue")
    found = supervisors(desk.store)
    own = desk.settings.node_name
    here = {run["run"]: status_of(desk.settings, run["name"]) for run in found if run["node"] == own}
    running = list(_running(desk))
    return {
        "at": counted.at,
        "per_s": round(sum(own.done_minute for own in queues) / MINUTE_S, 3),
        "at_least": any("done_minute" in own.at_least for own in queues),
        "supervisors": [_supervisor(run, here.get(run["run"]), running) for run in found],
        "workers": list(_workers(found, here, running, counted.at)),
        "queues": [_queue(own) for own in queues],
    }


def _running(desk: Desk) -> Iterator[dict[str, Any]]:
    """Yield the jobs that supervisors have; those that run for long tell their worker."""
    jobs = Job.objects.using(desk.store.alias).filter(status=Status.RUNNING).order_by("last_attempted_at")
    columns = ("id", "task", "queue", "claimed_by", "worker", "last_attempted_at")
    yield from jobs.values(*columns)[:SEEN_MAX]


def _supervisor(
    run: Mapping[str, Any], status: Mapping[str, Any] | None, running: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    told = {name: run[name] for name in ("run", "name", "node", "pid", "state", "protocol", "silent_s", "started_at")}
    told["silent"] = run["silent_s"] > run["lease_s"]
    told["claimed"] = sum(job["claimed_by"] == run["run"] for job in running)
    told["workers"] = None if status is None else len(status["workers"])
    told["per_s"] = None if status is None else status.get("per_s")
    return told


def _workers(
    found: Sequence[Mapping[str, Any]], here: Mapping[int, Mapping[str, Any] | None],
    running: Sequence[Mapping[str, Any]], now: datetime,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield the workers of this host as their supervisors tell, and those elsewhere that are known to run a job."""
    tasks = {job["id"]: job for job in running}
    asked = {run for run, status in here.items() if status is not None}
    for run in found:
        for worker in (here.get(run["run"]) or {}).get("workers", ()):
            job = tasks.get(worker["job"], {})
            yield {
                "supervisor": run["name"],
                "node": run["node"],
                "worker": worker["number"],
                "pool": worker.get("pool"),
                "pid": worker["pid"],
                "state": worker["state"],
                "job": worker["job"],
                "task": job.get("task"),
                "queue": job.get("queue"),
                "for_s": worker["for_s"],
                "waiting": worker["waiting"],
                "rss_bytes": worker["rss_bytes"],
            }
    names = {run["run"]: run for run in found}
    elsewhere = [job for job in running if job["worker"] and job["claimed_by"] not in asked]
    for job in elsewhere[:WORKERS_MAX]:
        node, number, pid = (*job["worker"].rsplit(":", 2), "", "")[:3]
        began = job["last_attempted_at"]
        yield {
            "supervisor": names.get(job["claimed_by"], {}).get("name"),
            "node": node,
            "worker": number.removeprefix("worker "),
            "pool": None,
            "pid": int(pid) if pid.isdigit() else None,
            "state": "serving",
            "job": job["id"],
            "task": job["task"],
            "queue": job["queue"],
            "for_s": None if began is None else round((now - began).total_seconds(), 3),
            "waiting": None,
            "rss_bytes": None,
        }


def _queue(own: Figures) -> dict[str, Any]:
    left_out = ("mean_s", "p95_s", "name")
    return {"queue": own.name, **{name: value for name, value in asdict(own).items() if name not in left_out}}
