"""Schedules in Django's admin: made, changed and refused by hand; those of the code only switched on and off."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from jobsup.models import Job, Schedule
from tests.support import ROOT, environment, eventually, run_django
from tests.system.jobs import ON_SQLITE

if TYPE_CHECKING:
    from tests.databases import Database

ADMIN = {
    "INSTALLED_APPS": [
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
        "django.contrib.messages", "jobsup", "tests.testapp",
    ],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "TEMPLATES": [{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    "ROOT_URLCONF": "tests.adminsite.urls",
    "STATIC_URL": "static/",
    "ALLOWED_HOSTS": ["*"],
}  # fmt: skip
GOOD = {
    "name": "mine", "task": "tests.testapp.tasks.echo", "arguments": '{"args": ["x"]}', "cron": "*/5  * * * *",
    "timezone": "Europe/Berlin", "catch_up": "all", "enabled": "on",
}  # fmt: skip
INTERVAL = {**GOOD, "cron": "", "timezone": "", "interval_s": "1", "name": "often"}


@pytest.fixture
def site(database: Database) -> Database:
    """A project with the admin; its tables are there."""
    found = replace(database, env={**database.env, "JOBSUP_TEST_SETTINGS": json.dumps(ADMIN)})
    done = run_django(found.env, "migrate", "--verbosity", "0")
    assert done.returncode == 0, done.stdout
    return found


def use(site: Database, *requests: tuple[str, dict[str, str] | None]) -> list[dict[str, Any]]:
    """Do something in the admin; return status, errors and text of each page."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adminsite.program"],
        cwd=ROOT,
        env=environment(site.env),
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def row(name: str) -> Schedule:
    """Return a schedule as it stands."""
    return Schedule.objects.get(pk=name)


def test_a_schedule_made_in_the_admin_is_served_by_a_supervisor_that_runs(site: Database) -> None:
    """Without a restart: its first job is enqueued with the arguments of the form."""
    with site.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        [made] = use(site, ("add/", INTERVAL))
        assert (made["status"], made["errors"]) == (302, [])
        eventually(lambda: Job.objects.filter(schedule="often", status=3).exists(), 60, "a job", supervisor.picture)
        supervisor.stop()
    job = Job.objects.filter(schedule="often").earliest("pk")
    assert (job.task, job.result) == ("tests.testapp.tasks.echo", '"x"')
    assert job.tick_at is not None
    assert job.tick_at.microsecond == 0


@ON_SQLITE
def test_the_admin_shows_changes_and_refuses_in_sentences(site: Database) -> None:
    """The list with the next moments; each mistake with its own sentence; a change moves no moment back."""
    bad = {
        "task": ("no.such.task", "no task no.such.task: workers import no module no.such; "),
        "arguments": ('{"args": []}', "missing a required argument: 'value'."),
        "cron": ("61 * * * *", "'61 * * * *' is no cron expression: Bad minute."),
        "timezone": ("Nowhere", "'Nowhere' is no time zone that this machine knows."),
        "interval_s": ("60", "Expected either a cron expression or an interval."),
    }
    forms = [{**GOOD, "name": key, key: value} for key, (value, _) in bad.items()]
    forms += [
        {**GOOD, "arguments": "nonsense"},
        {**GOOD, "arguments": "[1]"},
        {**INTERVAL, "interval_s": "0"},
        {**INTERVAL, "timezone": "UTC"},
        {**GOOD, "catch_up": "some"},
        {**GOOD, "task": "tests.testapp.models.Effect"},
    ]
    expected = [told for _, told in bad.values()] + [
        'Expected JSON such as {"args": [1, 2], "kwargs": {"name": "value"}}, and this is none',
        'Expected JSON such as {"args": [1, 2], "kwargs": {"name": "value"}}.',
        "Expected an interval from 1 second to 366 days.",
        "An interval has no time zone: its moments are the same everywhere.",
        "Select a valid choice.",
        "no task of that name stands in the module tests.testapp.models",
    ]
    answers = use(site, *[("add/", form) for form in forms])
    for form, answer, told in zip(forms, answers, expected, strict=True):
        assert any(told in error for error in answer["errors"]), f"{form}: {answer['errors']}"
    assert not Schedule.objects.exists()

    later = datetime.now(UTC) + timedelta(days=1)
    [made] = use(site, ("add/", GOOD))
    assert (made["status"], row("mine").cron, row("mine").from_code) == (302, "*/5 * * * *", False)
    Schedule.objects.create(name="code", task="t", cron="@daily", from_code=True, job="{}", next_at=later)
    Schedule.objects.filter(pk="mine").update(next_at=later)
    changed = {**GOOD, "name": "renamed", "arguments": '{"args": ["y"]}'}
    shown, page, done, code, refused, switched = use(
        site,
        ("", None),
        ("mine/change/", None),
        ("mine/change/", changed),
        ("code/change/", None),
        ("code/delete/", {"post": "yes"}),
        ("code/change/", {"cron": "0 0 1 1 *"}),
    )
    assert "Europe/Berlin" in shown["text"]
    assert f"{later:%Y-%m-%d}" in shown["text"] or "UTC" in shown["text"]
    assert (page["status"], done["status"], code["status"], refused["status"]) == (200, 302, 200, 403)
    assert switched["status"] == 302
    assert json.loads(row("mine").job or "")["arguments"] == '{"args":["y"],"kwargs":{}}'
    assert row("mine").next_at == later, "another argument is no reason for another moment"
    assert (row("code").cron, row("code").enabled, row("code").next_at) == ("@daily", False, None)
    assert Schedule.objects.count() == 2
