"""The table that jobs read and write; made by the benchmarks themselves, which are no app."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

ACCOUNTS = 1000


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
    """Read a row and write it."""
    account = Account.objects.get(pk=1 + number % ACCOUNTS)
    Account.objects.filter(pk=account.pk).update(balance=models.F("balance") + 1)


def make_accounts() -> None:
    """Make the table with its rows."""
    from django.db import connection

    with connection.schema_editor() as editor:
        editor.create_model(Account)
    Account.objects.bulk_create([Account(pk=number) for number in range(1, 1 + ACCOUNTS)])


def raised() -> int:
    """Return by how much all of them were raised."""
    total: int = Account.objects.aggregate(total=models.Sum("balance"))["total"]
    return total
