"""What the web room keeps: hints for open pages, and signs of life of the processes behind them."""

from __future__ import annotations

from django.db import models


class LiveEvent(models.Model):
    """A hint that something changed. Written in the transaction of the change; kept for minutes."""

    topic = models.CharField(max_length=120)
    at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.id} {self.topic}"


class Heartbeat(models.Model):
    """When a part was last seen, and what it said. One row a part."""

    name = models.CharField(max_length=40, unique=True)
    at = models.DateTimeField()
    ok = models.BooleanField(default=True)
    message = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} {'ok' if self.ok else 'failing'} at {self.at:%H:%M:%S}"
