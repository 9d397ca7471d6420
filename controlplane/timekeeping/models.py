"""What is remembered of the clock: how it runs, and when it jumped."""

from __future__ import annotations

from django.db import models


class ClockWatch(models.Model):
    """One row: the clock as it was last looked at.

    at        what it showed then
    jumps     how many were noted
    total     the sum of all of them, seconds: what it shows and `total` taken off runs as steadily as time does
    origins   by machine: what the clock showed, without `total`, when the machine's monotonic clock was at 0, and
              when that was last seen (both seconds since the epoch)
    version   grows with every write, for a compare-and-set
    """

    at = models.DateTimeField(null=True)
    jumps = models.PositiveIntegerField(default=0)
    total = models.FloatField(default=0.0)
    origins = models.JSONField(default=dict)
    version = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"clock at {self.at}"


class ClockJump(models.Model):
    """The clock showed another time from one look to the next than really passed in between.

    number    1 for the first
    before    what it showed at the look before; `at` at the look after
    seconds   by how much it jumped; below 0: back
    """

    number = models.PositiveIntegerField(unique=True)
    before = models.DateTimeField()
    at = models.DateTimeField()
    seconds = models.FloatField()

    class Meta:
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.seconds:+.0f} s at {self.at:%Y-%m-%d %H:%M:%S}"
