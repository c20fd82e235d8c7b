"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class JobsupConfig(AppConfig):
    """Registers the models and the system checks; opens and starts nothing."""

    name = "jobsup"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from jobsup import checks  # noqa: F401
