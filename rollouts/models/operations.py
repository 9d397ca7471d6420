"""What is to be done, what happened, and the switch that stops everything."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from rollouts.models.endpoints import Endpoint
from rollouts.models.rollouts import Rollout


class EffectState(models.TextChoices):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Effect(models.Model):
    """One thing a decision asked for, written in the transaction of the state. Done only when read back."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="effects")
    rollout = models.ForeignKey(Rollout, null=True, on_delete=models.CASCADE, related_name="effects")
    kind = models.CharField(max_length=20)
    payload = models.JSONField()
    state = models.CharField(max_length=12, choices=EffectState.choices, default=EffectState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    problem = models.TextField(default="", blank=True)
    not_before = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["endpoint", "state", "id"])]


class HistoryEvent(models.Model):
    """What happened to a rollout or an endpoint, for people. Written in the transaction of the change."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="history")
    rollout = models.ForeignKey(Rollout, null=True, on_delete=models.CASCADE, related_name="history")
    at = models.DateTimeField()
    kind = models.CharField(
        max_length=40, help_text='such as "advanced", "rolled-back", "paused", "launch-failed"'
    )
    title = models.TextField()
    detail = models.TextField(default="", blank=True)
    actor = models.CharField(max_length=150, default="Headgate")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["rollout", "-id"]), models.Index(fields=["endpoint", "-id"])]


class GlobalStop(models.Model):
    """One row: while `on`, nothing in the installation moves forward. Rolling back is never stopped."""

    on = models.BooleanField(default=False)
    since = models.DateTimeField(null=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    why = models.TextField(default="", blank=True)
