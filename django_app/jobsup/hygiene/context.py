"""What is kept in context variables: the active language, the active time zone, the context of decimals."""

from __future__ import annotations

import contextvars
import decimal

from django.utils import timezone, translation

from jobsup.hygiene.leftovers import Findings


class Context:
    """Language, time zone and decimals as a fresh worker has them."""

    def __init__(self) -> None:
        self._decimals = decimal.getcontext().copy()
        self._language: str | None = translation.get_language()  # None: nothing is translated
        self._timezone = timezone.get_current_timezone()
        self._seen = contextvars.copy_context()

    def restore(self, findings: Findings) -> None:
        """Put them back."""
        if not _same(decimal.getcontext(), self._decimals):
            decimal.setcontext(self._decimals.copy())
            findings.restored.append("the context of decimals")
        if contextvars.copy_context() == self._seen:  # one look for all that is set through variables
            return
        if timezone.get_current_timezone() != self._timezone:
            timezone.deactivate()
            if timezone.get_current_timezone() != self._timezone:
                timezone.activate(self._timezone)
            findings.restored.append("the active time zone")
        if translation.get_language() != self._language:
            translation.deactivate()
            if self._language is None:
                translation.deactivate_all()
            elif translation.get_language() != self._language:
                translation.activate(self._language)
            findings.restored.append("the active language")
        self._seen = contextvars.copy_context()


def _same(one: decimal.Context, other: decimal.Context) -> bool:
    """Compare everything but the flags, which ordinary arithmetic raises."""
    return (
        one.prec == other.prec
        and one.rounding == other.rounding
        and one.traps == other.traps
        and one.Emax == other.Emax
        and one.Emin == other.Emin
        and one.capitals == other.capitals
        and one.clamp == other.clamp
    )
