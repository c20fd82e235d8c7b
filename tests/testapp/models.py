"""What jobs leave behind, so that a test can see what really ran."""

from __future__ import annotations

from django.db import models


class Effect(models.Model):
    """One run of one job, written by the job itself."""

    job = models.BigIntegerField()
    attempt = models.IntegerField()
    pid = models.IntegerField()
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"job {self.job}, attempt {self.attempt}, pid {self.pid}"
