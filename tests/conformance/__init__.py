"""Whether a backend keeps the contract of `django.tasks`: a suite for any of them, in plain Django terms.

    python -m tests.conformance                    # the backend of this repository, on SQLite
    python -m tests.conformance --json report.json # the same for programs
    python -m tests.conformance results.           # only the checks whose names begin so
    pytest tests/conformance                       # each check as a test

The environment says which backend is examined:

    CONFORMANCE_BACKEND     dotted path of the backend's class
    CONFORMANCE_OPTIONS     its OPTIONS, as JSON
    CONFORMANCE_APPS        what it needs in INSTALLED_APPS, separated by spaces
    CONFORMANCE_WORKER      the command that runs what is queued; empty when enqueue() runs the task itself
    CONFORMANCE_QUIET_S     for a worker that does not end by itself: it is sent SIGTERM after that much silence, in s
    CONFORMANCE_AGAIN_S     after how long it runs a job again that raised or whose worker was killed, in s (0)
    CONFORMANCE_DATABASE    URL of an empty database (a SQLite file of the run's own)
    CONFORMANCE_SETTINGS    further settings, as JSON or as the dotted path of a module that has them
    CONFORMANCE_RETRY       options of the decorator with which a task that raises is tried again, as JSON
    CONFORMANCE_DECORATOR   dotted path of the decorator that takes them (that of django.tasks)
    CONFORMANCE_USE_TZ      0 for naive datetimes

The worker must run one job at a time, of the queues "default" and "other". In its command {python} stands for this
interpreter, in CONFORMANCE_SETTINGS {dir} for a directory of the run's own. A check is a function that enqueues,
yields until a worker has been at work, and then looks. Nothing here knows any backend from within.
"""
