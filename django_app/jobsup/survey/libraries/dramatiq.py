"""dramatiq, with django_dramatiq and periodiq."""

from __future__ import annotations

from jobsup.survey.rules import Library, decide, missing, same

_WORKFLOW = missing("jobsup has no workflows: let the last job of a step enqueue the next one")
_LEAVE_OUT = same("leave it out: the queue is a table in your database")
_RATE = missing("there are no rate limits: JOBSUP['POOLS'][...]['LIMITS'] bounds how many run at once")
_HOOK = decide("a receiver of the signal task_finished")

LIBRARY = Library(
    name="dramatiq",
    roots=("dramatiq", "django_dramatiq", "periodiq", "dramatiq_crontab"),
    tasks=("dramatiq.actor",),
    rules={
        "dramatiq.actor": same("from jobsup import task; @task"),
        "@(max_retries)": decide("max_attempts, one more; without it an exception ends a job (dramatiq: 20 retries)"),
        "@(min_backoff)": same("backoff=Backoff(base=...), in seconds; dramatiq's are milliseconds"),
        "@(max_backoff)": same("backoff=Backoff(max=...), in seconds; dramatiq's are milliseconds"),
        "@(retry_when)": decide(
            "backoff=a function (exception, task_result) that returns None to give up, or retry_on"
        ),
        "@(throws)": same("discard_on=(...)"),
        "@(time_limit)": same("timeout=SECONDS, an exception in the job; dramatiq's are milliseconds"),
        "@(max_age)": missing("a job does not expire: compare the time at the beginning of the job and raise Discard"),
        "@(queue_name)": same("queue_name=..., one of TASKS[...]['QUEUES']"),
        "@(priority)": decide("priority=-100..100, the highest first; dramatiq's lowest goes first"),
        "@(actor_name)": decide("leave it out: a task is called by the path of its function"),
        "@(store_results)": same("leave it out: results are always kept, as JOBSUP['KEEP'] says"),
        "@(result_ttl)": same("keep=SECONDS; dramatiq's are milliseconds"),
        "@(broker)": same("leave it out"),
        "@(periodic)": same("schedule='...', a cron expression"),
        "@(on_failure)": _HOOK,
        "@(on_success)": _HOOK,
        "@(on_retry_exhausted)": _HOOK,
        "@(notify_shutdown)": decide("leave it out: a job that is cut short by a stop goes back to its queue"),
        "@(*)": decide("@task has no such option: see docs/tasks.md"),
        ".send": same(".enqueue(...)"),
        ".send_with_options": same(".using(...).enqueue(...)"),
        ".send_with_options(args)": same(".enqueue(*args)"),
        ".send_with_options(kwargs)": same(".enqueue(**kwargs)"),
        ".send_with_options(delay)": same(
            ".using(run_after=timezone.now() + timedelta(...)); dramatiq's are milliseconds"
        ),
        ".send_with_options(on_failure)": _HOOK,
        ".send_with_options(on_success)": _HOOK,
        ".send_with_options(*)": decide("options of using(): see docs/tasks.md"),
        ".message": _WORKFLOW,
        ".message_with_options": _WORKFLOW,
        "()": same(".call(...): a task is no function, and calling it is an error"),
        "on_commit": same("leave on_commit() out: .enqueue() is part of the transaction on the database with the jobs"),
        "dramatiq.group": decide(".enqueue_many(...), if nobody waits for all of them together; jobsup has no groups"),
        "dramatiq.pipeline": _WORKFLOW,
        "dramatiq.rate_limits.*": _RATE,
        "dramatiq.results.*": same("leave it out: task.get_result(id)"),
        "dramatiq.set_broker": _LEAVE_OUT,
        "dramatiq.get_broker": _LEAVE_OUT,
        "dramatiq.brokers.stub.*": same("jobsup.testing"),
        "dramatiq.brokers.*": _LEAVE_OUT,
        "dramatiq.middleware.TimeLimitExceeded": same("jobsup.JobTimeout, a BaseException"),
        "dramatiq.middleware.Shutdown": decide(
            "leave it out: a job that is cut short by a stop goes back to its queue"
        ),
        "dramatiq.middleware.CurrentMessage*": same("@task(takes_context=True): context.task_result"),
        "dramatiq.middleware.*": decide("receivers of the signals task_started and task_finished"),
        "dramatiq.errors.Retry": same("jobsup.Retry(after=SECONDS)"),
        "dramatiq.Retry": same("jobsup.Retry(after=SECONDS)"),
        "dramatiq.*": decide("not known to this survey: see docs/tasks.md"),
        "periodiq.cron": same("@task(schedule='...'), the same expression"),
        "periodiq.*": same("leave it out: supervisors enqueue what is scheduled"),
        "dramatiq_crontab.cron": same("@task(schedule='...'), the same expression"),
        "django_dramatiq.models.*": same("rows of jobsup.models.Job, or manage.py jobs list --json"),
        "django_dramatiq.*": decide("not known to this survey: see docs/tasks.md"),
        "DRAMATIQ_BROKER": _LEAVE_OUT,
        "DRAMATIQ_RESULT_BACKEND": _LEAVE_OUT,
        "DRAMATIQ_TASKS_DATABASE": decide("a router: see docs/databases.md"),
        "DRAMATIQ_AUTODISCOVER_MODULES": decide("workers import the module `tasks` of each app; import others there"),
        "DRAMATIQ_*": decide("not known to this survey: see docs/settings.md"),
        "'django_dramatiq'": same("'jobsup'"),
        "'django_periodiq'": same("leave it out"),
        "'dramatiq_crontab'": same("leave it out"),
    },
)
