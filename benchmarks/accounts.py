"""The table that jobs read and write; made by the rows that use it, since the benchmarks are no app."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Account(models.Model):
    """A number that each job raises by one."""

    balance = models.BigIntegerField(default=0)

    objects: ClassVar[models.Manager[Account]]

    class Meta:
        """Names the app, which is not installed."""

        app_label = "benchmarks"

    def __str__(self) -> str:
        return f"{self.pk}: {self.balance}"


def raise_by_one(number: int) -> None:
    """Read a row and write it, by the ORM."""
    account = Account.objects.get(pk=number)
    account.balance += 1
    account.save(update_fields=["balance"])
