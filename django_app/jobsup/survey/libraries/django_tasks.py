"""Backends of `django.tasks`: django-tasks-db, django-tasks-rq, steady-queue, django-ox, dj-queue, Django's own."""

from __future__ import annotations

from jobsup.survey.rules import Library, decide, missing, same

_BACKEND = same("'jobsup.backend.JobsupBackend'")
_TASK = same("works as it is; `from jobsup import task` for the options of jobsup")
_LIMIT = decide("a queue with JOBSUP['POOLS'][...]['LIMITS'], or unique=KEY, unique_while='running'")
_DECLARED = {
    "priority": same("the same"),
    "queue_name": same("the same, one of TASKS[...]['QUEUES']"),
    "backend": same("the same"),
    "takes_context": same("the same"),
    "max_attempts": same("max_attempts of jobsup's @task"),
    "timeout": same("timeout of jobsup's @task"),
    "backoff": same("backoff of jobsup's @task; a function gets (exception, task_result)"),
}

LIBRARY = Library(
    name="django.tasks",
    roots=(
        "django.tasks",
        "django_tasks",
        "django_tasks_db",
        "django_tasks_rq",
        "steady_queue",
        "django_ox",
        "oxpull",
        "dj_queue",
    ),
    tasks=("django.tasks.task", "django_tasks.task"),
    rules={
        "django.tasks.task": _TASK,
        "django_tasks.task": same("works as it is on Django 5.2; from jobsup import task on every version"),
        **{f"@({option})": rule for option, rule in _DECLARED.items()},
        "@(*)": decide("look for it in docs/tasks.md; @task of jobsup refuses what it does not have"),
        "steady_queue.recurring_task.recurring": same("@task(schedule=Schedule(...))"),
        "steady_queue.recurring_task.recurring(schedule)": same("the first argument of Schedule"),
        "steady_queue.recurring_task.recurring(args)": same("Schedule(args=[...])"),
        "steady_queue.recurring_task.recurring(kwargs)": same("Schedule(kwargs={...})"),
        "steady_queue.recurring_task.recurring(key)": same("Schedule(name=...)"),
        "steady_queue.recurring_task.recurring(*)": same("options of the task"),
        "steady_queue.concurrency.limits_concurrency": _LIMIT,
        "steady_queue.concurrency.limits_concurrency(key)": decide("unique=a callable that makes the key"),
        "steady_queue.concurrency.limits_concurrency(to)": missing("more than one at once by key; LIMITS are by queue"),
        "steady_queue.concurrency.limits_concurrency(duration)": same("leave it out"),
        "steady_queue.concurrency.limits_concurrency(group)": missing("keys of different tasks never meet"),
        "steady_queue.configuration.*": same("JOBSUP['WORKERS'] or JOBSUP['POOLS']; there is no dispatcher"),
        "steady_queue.database": decide("a router: see docs/databases.md"),
        "steady_queue.clear_finished_jobs_after": same("JOBSUP['KEEP']"),
        "steady_queue.preserve_finished_jobs": same("JOBSUP['KEEP']"),
        "steady_queue.shutdown_timeout": same("JOBSUP['GRACE']"),
        "steady_queue.process_*": same("JOBSUP['LEASE']"),
        "steady_queue.*": decide("not known to this survey: see docs/tasks.md"),
        "django_ox.exceptions.TaskTimeout": same("jobsup.JobTimeout, a BaseException"),
        "oxpull.*unique": same("@task(unique=True)"),
        "oxpull.*rate*": missing("there are no rate limits"),
        "oxpull.*batch*": missing("there are no batches with an end of their own"),
        "oxpull.*workflow*": missing("jobsup has no workflows: let the last job of a step enqueue the next one"),
        "django_ox.models.*": same("rows of jobsup.models.Job and jobsup.models.Schedule"),
        "django_ox.*enqueue_many": same("task.enqueue_many(...)"),
        "django_ox.*": decide("not known to this survey: see docs/tasks.md"),
        "oxpull.*": decide("not known to this survey: see docs/tasks.md"),
        "dj_queue.*": decide("not known to this survey: see docs/tasks.md"),
        "django_tasks_db.models.DBTaskResult*": same("rows of jobsup.models.Job, or task.get_result(id)"),
        "django_tasks.backends.database.models.*": same("rows of jobsup.models.Job, or task.get_result(id)"),
        "django_tasks_db.*": decide("not known to this survey: see docs/tasks.md"),
        "django_tasks_rq.*": decide("not known to this survey: see docs/tasks.md"),
        "'django_tasks_db.DatabaseBackend'": _BACKEND,
        "'django_tasks.backends.database.DatabaseBackend'": _BACKEND,
        "'django_tasks_rq.RQBackend'": _BACKEND,
        "'django_tasks.backends.rq.RQBackend'": _BACKEND,
        "'steady_queue.backend.SteadyQueueBackend'": _BACKEND,
        "'django_ox.backend.OxBackend'": _BACKEND,
        "'dj_queue.backend.DjQueueBackend'": _BACKEND,
        "'django.tasks.backends.*.*Backend'": decide(
            "'jobsup.backend.JobsupBackend'; in tests, jobsup.testing instead"
        ),
        "'django_tasks.backends.*.*Backend'": decide(
            "'jobsup.backend.JobsupBackend'; in tests, jobsup.testing instead"
        ),
        "TASKS[id_function]": missing("ids are the database's numbers"),
        "TASKS[MAX_ATTEMPTS]": decide("@task(max_attempts=...); a default for all that raise is not there"),
        "TASKS[LOCK_TIMEOUT]": same("JOBSUP['LEASE']"),
        "TASKS[BACKOFF_INITIAL]": same("@task(backoff=Backoff(base=...))"),
        "TASKS[BACKOFF_MAX]": same("@task(backoff=Backoff(max=...))"),
        "TASKS[TASK_TIMEOUT]": same("JOBSUP['TIMEOUT']"),
        "TASKS[TASK_TIMEOUTS]": decide("@task(timeout=...): by task, not by queue"),
        "TASKS[TASK_TIMEOUT_GRACE]": same("JOBSUP['TIMEOUT_GRACE']"),
        "TASKS[SCHEDULES]": same("@task(schedule=...) beside each task"),
        "TASKS[SCHEDULE_SOURCE]": same("leave it out: schedules in the admin and in the code are served alike"),
        "TASKS[workers]": same("JOBSUP['WORKERS'] or JOBSUP['POOLS']"),
        "TASKS[recurring]": same("@task(schedule=...) beside each task"),
        "STEADY_QUEUE": same("JOBSUP['WORKERS'] or JOBSUP['POOLS']; there is no dispatcher"),
        "'django_tasks_db'": same("'jobsup'"),
        "'django_tasks.backends.database'": same("'jobsup'"),
        "'django_tasks_rq'": same("'jobsup'"),
        "'steady_queue'": same("'jobsup'"),
        "'django_ox'": same("'jobsup'"),
        "'oxpull'": same("'jobsup'"),
        "'dj_queue'": same("'jobsup'"),
    },
)
