"""RQ, django-rq and rq-scheduler."""

from __future__ import annotations

from jobsup.survey.rules import Library, Rule, decide, missing, same

_ENQUEUE = same("a task: @task above the function, then function.enqueue(...)")
_LATER = same("function.using(run_after=...).enqueue(...)")
_HOOK = decide("a receiver of the signal task_finished, or the last line of the task")

_OPTIONS = {
    "timeout": same("timeout=SECONDS; raises jobsup.JobTimeout instead of JobTimeoutException"),
    "job_timeout": same("timeout=SECONDS; raises jobsup.JobTimeout instead of JobTimeoutException"),
    "result_ttl": same("keep=SECONDS; JOBSUP['KEEP'] for all"),
    "failure_ttl": decide("keep=SECONDS, which is for every end; JOBSUP['KEEP']['failed'] for all tasks"),
    "ttl": missing("a job does not expire: compare the time at the beginning of the job and raise Discard"),
    "retry": same("max_attempts (one more than max) and backoff=SECONDS or Backoff(...)"),
    "repeat": decide("schedule=..., or let the job enqueue the next one"),
    "depends_on": missing("jobs do not depend on others: let the last job of a step enqueue the next one"),
    "job_id": decide("ids are the database's; unique=KEY keeps a second one away"),
    "unique": same("unique=True, or a key"),
    "at_front": decide("priority=1 to 100"),
    "description": same("leave it out"),
    "meta": missing("a job has no meta: write it to a model of yours, or say context.ready(message)"),
    "on_success": _HOOK,
    "on_failure": _HOOK,
    "on_stopped": _HOOK,
    "connection": same("leave it out"),
    "queue": same("queue_name=..."),
    "args": same(".enqueue(*args)"),
    "kwargs": same(".enqueue(**kwargs)"),
    "f": _ENQUEUE,
    "func": _ENQUEUE,
}


def _with_options(*names: str) -> dict[str, Rule]:
    return {f"{name}({option})": rule for name in names for option, rule in _OPTIONS.items()}


LIBRARY = Library(
    name="RQ",
    roots=("rq", "django_rq", "rq_scheduler"),
    objects=("rq.Queue", "rq.queue.Queue", "django_rq.get_queue", "django_rq.queues.get_queue"),
    tasks=("rq.decorators.job", "django_rq.job", "django_rq.decorators.job"),
    rules={
        "rq.decorators.job": same("from jobsup import task; @task(queue_name=...)"),
        "django_rq.job": same("from jobsup import task; @task(queue_name=...)"),
        "django_rq.decorators.job": same("from jobsup import task; @task(queue_name=...)"),
        **{f"@({option})": rule for option, rule in _OPTIONS.items()},
        "@(*)": decide("@task has no such option: see docs/tasks.md"),
        ".delay": same(".enqueue(...)"),
        "()": same(".call(...): a task is no function, and calling it is an error"),
        "on_commit": same("leave on_commit() out: .enqueue() is part of the transaction on the database with the jobs"),
        "django_rq.enqueue": _ENQUEUE,
        "<app>.enqueue": _ENQUEUE,
        "<app>.enqueue_call": _ENQUEUE,
        "<app>.enqueue_in": _LATER,
        "<app>.enqueue_at": _LATER,
        "<app>.enqueue_many": same("task.enqueue_many(...)"),
        **_with_options(
            "django_rq.enqueue", "<app>.enqueue", "<app>.enqueue_call", "<app>.enqueue_in", "<app>.enqueue_at"
        ),
        "<app>.empty": same("manage.py jobs cancel --queue NAME --status ready"),
        "<app>.fetch_job": same("task.get_result(id)"),
        "<app>.*": decide("manage.py jobs, or jobsup.models.Job: see docs/jobs-command.md"),
        "rq.Queue": same("leave it out: queue_name is an option of the task"),
        "rq.queue.Queue": same("leave it out: queue_name is an option of the task"),
        "django_rq.get_queue": same(
            "leave it out: queue_name is an option of the task, using(queue_name=...) for a job"
        ),
        "django_rq.queues.get_queue": same("leave it out: queue_name is an option of the task"),
        "django_rq.get_scheduler*": same("@task(schedule=...); a single time: using(run_after=...)"),
        "rq_scheduler.*": same("@task(schedule=...); a single time: using(run_after=...)"),
        "django_rq.get_worker*": same("manage.py jobsupervisor; in tests: jobsup.testing.run_pending()"),
        "django_rq.get_connection": same("leave it out"),
        "rq.get_current_job*": same("@task(takes_context=True): context.task_result"),
        "rq.job.get_current_job*": same("@task(takes_context=True): context.task_result"),
        "rq.Retry": same("@task(max_attempts=one more than max, backoff=SECONDS or Backoff(...))"),
        "rq.Callback": _HOOK,
        "rq.Repeat": decide("schedule=..., or let the job enqueue the next one"),
        "rq.job.Job.fetch": same("task.get_result(id)"),
        "rq.job.Job*": decide("task.get_result(id), or jobsup.models.Job"),
        "rq.Worker*": same("manage.py jobsupervisor"),
        "rq.worker.*": same("manage.py jobsupervisor"),
        "rq.SimpleWorker*": same("jobsup.testing.run_pending()"),
        "rq.cron.*": same("@task(schedule=...)"),
        "rq.timeouts.JobTimeoutException": same("jobsup.JobTimeout, a BaseException"),
        "rq.command.send_stop_job_command": same("result.cancel(), or manage.py jobs cancel ID"),
        "rq.suspension.*": same("manage.py jobs pause QUEUE, manage.py jobs resume QUEUE"),
        "rq.registry.*": same("manage.py jobs list --status ..., or jobsup.models.Job"),
        "django_rq.*": decide("not known to this survey: see docs/tasks.md"),
        "rq.*": decide("not known to this survey: see docs/tasks.md"),
        "RQ_QUEUES": same("TASKS[...]['QUEUES']: the names; there is no broker"),
        "RQ_QUEUES[DEFAULT_TIMEOUT]": same("JOBSUP['TIMEOUT']; RQ's default is 180 s, jobsup's none"),
        "RQ_QUEUES[DEFAULT_RESULT_TTL]": same("JOBSUP['KEEP']['successful']"),
        "RQ_QUEUES[ASYNC]": same("jobsup.testing: immediate()"),
        "RQ_SHOW_ADMIN_LINK": same("leave it out"),
        "RQ_EXCEPTION_HANDLERS": decide("a receiver of task_finished, or a logging handler for `jobsup.worker`"),
        "RQ_API_TOKEN": missing("there is no HTTP interface: manage.py jobs stats --json"),
        "RQ_*": decide("not known to this survey: see docs/settings.md"),
        "RQ": decide("JOBSUP: see docs/settings.md"),
        "'django_rq'": same("'jobsup'"),
        "'scheduler'": decide("if that is django-rq-scheduler: rows of jobsup.models.Schedule, in the admin"),
    },
)
