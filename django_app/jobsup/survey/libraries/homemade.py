"""What is built by hand: processes, threads and timers that a web process or a command starts."""

from __future__ import annotations

from jobsup.survey.rules import Library, decide, same

_PROCESS = decide(
    "a task, and an enqueue in its place; in a task's own code it may stay, if the task waits for its end"
)
_THREAD = decide("a task, and an enqueue in its place: a thread ends with the process that started it")
_FORK = decide("a task: a forked child shares the parent's connections")
_VIEW = decide("a task, if the answer need not wait for it")
_CLOSED = decide("leave it out, if it is for child processes: workers are spawned and inherit no connection")
_SCHEDULER = same("@task(schedule=...)")

LIBRARY = Library(
    name="by hand",
    roots=("multiprocessing", "concurrent.futures", "apscheduler", "django_apscheduler"),
    rules={
        "multiprocessing.Process": _PROCESS,
        "multiprocessing.Pool": _PROCESS,
        "multiprocessing.pool.*": _PROCESS,
        "multiprocessing.get_context().Process": _PROCESS,
        "multiprocessing.get_context().Pool": _PROCESS,
        "concurrent.futures.ProcessPoolExecutor": _PROCESS,
        "concurrent.futures.ThreadPoolExecutor": _THREAD,
        "concurrent.futures.process.ProcessPoolExecutor": _PROCESS,
        "concurrent.futures.thread.ThreadPoolExecutor": _THREAD,
        "threading.Thread": _THREAD,
        "threading.Timer": decide("a task with using(run_after=...)"),
        "_thread.start_new_thread": _THREAD,
        "os.fork": _FORK,
        "os.forkpty": _FORK,
        "view:subprocess.*": _VIEW,
        "view:os.system": _VIEW,
        "view:os.popen": _VIEW,
        "view:os.spawn*": _VIEW,
        "view:django.core.management.call_command": same("jobsup.tasks.call_command.enqueue(...)"),
        "django.db.connections.close_all": _CLOSED,
        "django.db.connection.close": _CLOSED,
        "django.db.close_old_connections": _CLOSED,
        "apscheduler.*": _SCHEDULER,
        "django_apscheduler.*": _SCHEDULER,
        "'django_apscheduler'": same("'jobsup', whose admin has the schedules"),
        "'django_crontab'": same("'jobsup': CRONJOBS becomes @task(schedule=...)"),
        "CRONJOBS": same("@task(schedule=...), the same expressions; a command: jobsup.tasks.call_command"),
    },
)
