"""huey, with its app for Django."""

from __future__ import annotations

from jobsup.survey.rules import Library, decide, missing, same

_MAKERS = ("task", "db_task", "on_commit_task", "periodic_task", "db_periodic_task")
_TASK = same("from jobsup import task; @task")
_PERIODIC = same("@task(schedule=...)")
_WORKFLOW = missing("jobsup has no workflows: let the last job of a step enqueue the next one")
_LOCK = decide(
    "@task(unique=..., unique_while='running'): a second one is not enqueued, instead of skipped when it runs"
)

LIBRARY = Library(
    name="huey",
    roots=("huey",),
    objects=(
        "huey.Huey",
        "huey.RedisHuey",
        "huey.SqliteHuey",
        "huey.MemoryHuey",
        "huey.FileHuey",
        "huey.PriorityRedisHuey",
        "huey.RedisExpireHuey",
        "huey.PriorityRedisExpireHuey",
        "huey.PostgresHuey",
        "huey.contrib.djhuey.HUEY",
    ),
    hint="huey",
    tasks=(*(f"huey.contrib.djhuey.{name}" for name in _MAKERS), "<app>.task", "<app>.periodic_task"),
    rules={
        "huey.contrib.djhuey.task": _TASK,
        "huey.contrib.djhuey.db_task": _TASK,
        "huey.contrib.djhuey.on_commit_task": same(
            "from jobsup import task; @task: .enqueue() is part of the transaction"
        ),
        "<app>.task": _TASK,
        "huey.contrib.djhuey.periodic_task": _PERIODIC,
        "huey.contrib.djhuey.db_periodic_task": _PERIODIC,
        "<app>.periodic_task": _PERIODIC,
        "@(retries)": decide("max_attempts, one more"),
        "@(retry_delay)": same("backoff=SECONDS"),
        "@(retry_backoff)": same("backoff=Backoff(base=..., factor=...)"),
        "@(priority)": decide("priority=-100..100, the highest first"),
        "@(context)": same("takes_context=True, whose first argument is called `context`"),
        "@(name)": decide("leave it out: a task is called by the path of its function"),
        "@(expires)": missing("a job does not expire: compare the time at the beginning of the job and raise Discard"),
        "@(delay)": same("using(run_after=...) where it is enqueued"),
        "@(timeout)": same("timeout=SECONDS"),
        "@(queue)": same("queue_name=..."),
        "@(*)": decide("@task has no such option: see docs/tasks.md"),
        "()": same(".enqueue(...): huey enqueues when the task is called"),
        ".schedule": same(".using(run_after=...).enqueue(...)"),
        ".schedule(delay)": same(".using(run_after=timezone.now() + timedelta(seconds=...))"),
        ".schedule(eta)": same(".using(run_after=...), an aware datetime"),
        ".schedule(args)": same(".enqueue(*args)"),
        ".schedule(kwargs)": same(".enqueue(**kwargs)"),
        ".call_local": same(".call(...)"),
        ".s": _WORKFLOW,
        ".then": _WORKFLOW,
        ".map": same(".enqueue_many(...)"),
        ".revoke": decide("result.cancel() for a job; manage.py jobs cancel --task PATH for all of a task"),
        ".restore": decide("manage.py jobs resume QUEUE, after jobs pause QUEUE"),
        ".is_revoked": decide("see manage.py jobs pause"),
        "on_commit": same("leave on_commit() out: .enqueue() is part of the transaction on the database with the jobs"),
        "huey.contrib.djhuey.lock_task": _LOCK,
        "<app>.lock_task": _LOCK,
        "huey.crontab": same("a cron expression: minute, hour, day, month, day of the week"),
        "huey.contrib.djhuey.crontab": same("a cron expression: minute, hour, day, month, day of the week"),
        "huey.exceptions.CancelExecution": same("jobsup.Discard(reason), or jobsup.Retry() for retry=True"),
        "huey.CancelExecution": same("jobsup.Discard(reason), or jobsup.Retry() for retry=True"),
        "huey.exceptions.RetryTask": same("jobsup.Retry(after=SECONDS)"),
        "huey.exceptions.*": decide("see the exceptions in docs/tasks.md"),
        "huey.contrib.djhuey.signal": same("receivers of task_enqueued, task_started, task_finished"),
        "<app>.signal": same("receivers of task_enqueued, task_started, task_finished"),
        "huey.signals.*": same("receivers of task_enqueued, task_started, task_finished"),
        "huey.contrib.djhuey.on_startup": decide("AppConfig.ready(), or at the first use: workers are fresh processes"),
        "<app>.on_startup": decide("AppConfig.ready(), or at the first use: workers are fresh processes"),
        "huey.contrib.djhuey.pre_execute": same("a receiver of task_started"),
        "huey.contrib.djhuey.post_execute": same("a receiver of task_finished"),
        "<app>.pre_execute": same("a receiver of task_started"),
        "<app>.post_execute": same("a receiver of task_finished"),
        "huey.contrib.djhuey.close_db": same("leave it out: a worker looks after its connections"),
        "<app>.rate_limit*": missing("there are no rate limits"),
        "<app>.result": same("task.get_result(id)"),
        "<app>.immediate": same("jobsup.testing: immediate()"),
        "<app>.enqueue": _WORKFLOW,
        "<app>.*": decide("there is no huey object: see docs/tasks.md"),
        "huey.group": _WORKFLOW,
        "huey.chord": _WORKFLOW,
        "huey.*Huey": same("leave it out: the queue is a table in your database"),
        "huey.contrib.djhuey.HUEY*": decide("there is no huey object: see docs/tasks.md"),
        "huey.*": decide("not known to this survey: see docs/tasks.md"),
        "HUEY": same("JOBSUP and TASKS, key by key as below"),
        "HUEY[immediate]": same("jobsup.testing: immediate(), run_pending()"),
        "HUEY[workers]": same("JOBSUP['WORKERS']"),
        "HUEY[worker_type]": decide(
            "workers are spawned processes; what only waits becomes a coroutine: see docs/async.md"
        ),
        "HUEY[periodic]": same("JOBSUP['SCHEDULES']"),
        "HUEY[results]": same("leave it out: results are kept as JOBSUP['KEEP'] says"),
        "HUEY[store_none]": same("leave it out"),
        "HUEY[consumer]": same("JOBSUP and options of manage.py jobsupervisor"),
        "HUEY[connection]": same("leave it out: the queue is a table in your database"),
        "HUEY[huey_class]": same("leave it out: the queue is a table in your database"),
        "'huey.contrib.djhuey'": same("'jobsup'"),
    },
)
