"""The demo as a Django app."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """Documents, analyses of them, and the pages that show both."""

    name = "demo"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "jobsup demo"
