"""The app's place in Django."""

from django.apps import AppConfig


class TestappConfig(AppConfig):
    """Named in full, because `testapp` alone is not importable."""

    name = "tests.testapp"
    label = "testapp"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Install the faults, the watch and the receivers that a test asked for."""
        from tests.testapp import faults, told, watch

        faults.install()
        watch.install()
        told.install()
