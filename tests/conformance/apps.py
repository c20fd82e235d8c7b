"""The suite's place in Django: where the signals are heard, in the enqueuing process and in every worker."""

from django.apps import AppConfig


class ConformanceConfig(AppConfig):
    """Named in full, because `conformance` alone is not importable."""

    name = "tests.conformance"
    label = "conformance"

    def ready(self) -> None:
        """Listen to the signals."""
        from tests.conformance import ears

        ears.connect()
