"""Schedules in Django's admin: those of the code to be looked at and switched off, others to be made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format

from jobsup.errors import TaskNotFound
from jobsup.models import Schedule
from jobsup.registry import find_task
from jobsup.schedules.declared import check_name
from jobsup.schedules.overview import show
from jobsup.schedules.rhythm import CATCH_UP, Rhythm, zone_of
from jobsup.schedules.rows import RHYTHM, WAKE, aware, job_text
from jobsup.sql import statements
from jobsup.task import JobsupTask
from jobsup.text import summary

if TYPE_CHECKING:
    _Form = forms.ModelForm[Schedule]
    _Admin = admin.ModelAdmin[Schedule]
else:
    _Form = forms.ModelForm
    _Admin = admin.ModelAdmin

NEXT = 3
"""How many of the next moments are shown."""


class ScheduleForm(_Form):
    """A schedule that somebody makes by hand: refused, in a sentence, where its jobs could not be."""

    catch_up = forms.ChoiceField(
        choices=[*zip(CATCH_UP, ("the latest missed moment", "all, the newest 100 at most", "none"), strict=True)],
        initial="latest",
        help_text="What is made up for after a time without supervisors.",
    )

    class Meta:
        model = Schedule
        fields = ("name", "task", "arguments", "cron", "interval_s", "timezone", "catch_up", "enabled")
        help_texts = {
            "task": "Dotted path, such as mysite.tasks.clean.",
            "arguments": 'JSON: {"args": [1, 2], "kwargs": {"name": "value"}}.',
            "cron": "Minute, hour, day of the month, month, day of the week. Leave it empty for an interval.",
            "interval_s": "Seconds; its multiples since 1970 (UTC) are meant. Leave it empty for a cron expression.",
            "timezone": "That the cron expression means, such as Europe/Berlin; empty: that of the project.",
        }
        widgets = {"arguments": forms.Textarea(attrs={"rows": 3}), "cron": forms.TextInput()}

    def clean_name(self) -> str:
        """Refuse a name that is none."""
        name: str = self.cleaned_data["name"]
        with _refused():
            check_name(name)
        return name

    def clean_cron(self) -> str:
        """Take one blank for several."""
        return " ".join(self.cleaned_data["cron"].split())

    def clean_timezone(self) -> str:
        """Refuse a zone that is none."""
        name: str = self.cleaned_data["timezone"]
        with _refused():
            zone_of(name or "UTC")
        return name

    def clean_task(self) -> str:
        """Refuse what is no task of jobsup's."""
        path: str = self.cleaned_data["task"]
        try:
            found = find_task(path)
        except TaskNotFound as error:
            raise ValidationError(f"{error}.") from None
        if not isinstance(found, JobsupTask):
            raise ValidationError(f"{path} is a task of another backend than jobsup's.")
        return path

    def clean(self) -> dict[str, Any]:
        """Refuse a rhythm without moments and arguments that the task does not take."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if {*RHYTHM} <= {*data}:
            rhythm = Rhythm(data["cron"], data["interval_s"], data["timezone"] or settings.TIME_ZONE or "UTC")
            if data["interval_s"] is not None and data["timezone"]:
                self.add_error("timezone", "An interval has no time zone: its moments are the same everywhere.")
            try:
                rhythm.check()
            except ValueError as error:
                self.add_error("cron" if data["cron"] else "interval_s", _sentence(error))
        if {"task", "arguments"} <= {*data}:
            try:
                given = _arguments(data["arguments"])
                self.instance.job = job_text(find_task(data["task"]), given["args"], given["kwargs"])
                data["arguments"] = json.loads(self.instance.job)["arguments"]
            except (TypeError, ValueError) as error:
                self.add_error("arguments", _sentence(error))
            except Exception as error:  # noqa: BLE001  # a callable of the task's that makes its unique key
                self.add_error("arguments", f"The unique key of such a job cannot be made: {summary(error)}.")
        return data


def _arguments(text: str) -> dict[str, Any]:
    expected = 'expected JSON such as {"args": [1, 2], "kwargs": {"name": "value"}}'
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{expected}, and this is none: {error}") from None
    if (
        not isinstance(given, dict)
        or not isinstance(given.setdefault("args", []), list)
        or not isinstance(given.setdefault("kwargs", {}), dict)
        or len(given) != 2
    ):
        raise ValueError(expected)
    return given


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValidationError(_sentence(error)) from None


@admin.register(Schedule)
class ScheduleAdmin(_Admin):
    """The list of schedules with their next moments; those of the code can only be switched on and off."""

    form = ScheduleForm
    list_display = ("name", "task", "rhythm", "zone", "enabled", "latest", "next_moments", "origin")
    list_filter = ("enabled", "from_code", "catch_up")
    search_fields = ("name", "task")
    readonly_fields = ("latest", "next_moments", "origin")

    @admin.display(description="when", ordering="cron")
    def rhythm(self, row: Schedule) -> str:
        """Show the expression or the interval."""
        return show(row, timezone.now(), 0).rhythm

    @admin.display(description="time zone", ordering="timezone", empty_value="")
    def zone(self, row: Schedule) -> str:
        """Show which one is meant."""
        return show(row, timezone.now(), 0).timezone

    @admin.display(description="latest moment", ordering="last_at")
    def latest(self, row: Schedule) -> str | None:
        """Show the latest moment that was seen to."""
        return None if row.last_at is None else _shown(aware(row.last_at))

    @admin.display(description="next moments", ordering="next_at")
    def next_moments(self, row: Schedule) -> str | None:
        """Show when its next jobs are enqueued, or why there are none."""
        shown = show(row, aware(timezone.now()), NEXT)
        return shown.trouble or ", ".join(_shown(moment) for moment in shown.next_at) or None

    @admin.display(description="from", ordering="from_code")
    def origin(self, row: Schedule) -> str:
        """Show who made it."""
        return "the code" if row.from_code else "the admin"

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> list[str]:
        """Let nobody rename a schedule, nor change what the code says."""
        fields = [str(field) for field in super().get_readonly_fields(request, obj)]
        if obj is None:
            return fields
        return [*fields, *(name for name in ScheduleForm.Meta.fields if name != "enabled")] if obj.from_code else [
            *fields, "name",
        ]  # fmt: skip

    def get_form(self, request: HttpRequest, obj: Schedule | None = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        """Check only what can be changed."""
        if obj is not None and obj.from_code:
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change=change, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Schedule | None = None) -> bool:
        """Keep what the code declares: it would come back."""
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.from_code)

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:  # noqa: FBT001
        """Write what was changed and nothing else: meanwhile a supervisor may have moved the schedule on."""
        if not change:
            super().save_model(request, obj, form, change)
        elif changed := self._changed(obj):
            if not {*RHYTHM, "enabled"}.isdisjoint(changed):
                obj.next_at = None  # a supervisor finds it anew, from now on
                changed.append("next_at")
            obj.save(update_fields=[*changed, "job"])
        statements(obj._state.db or "default").notify(WAKE)  # noqa: SLF001  # which alias Django has written to

    def _changed(self, row: Schedule) -> list[str]:
        before = Schedule.objects.using(row._state.db).get(pk=row.pk)  # noqa: SLF001
        return [name for name in ScheduleForm.Meta.fields if getattr(before, name) != getattr(row, name)]


def _shown(moment: Any) -> str:
    return date_format(timezone.localtime(moment), "Y-m-d H:i:s T")
