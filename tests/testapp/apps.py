"""The app's place in Django."""

from django.apps import AppConfig


class TestappConfig(AppConfig):
    """Named in full, because `testapp` alone is not importable."""

    name = "tests.testapp"
    label = "testapp"
    default_auto_field = "django.db.models.BigAutoField"
