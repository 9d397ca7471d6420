"""What the API itself remembers: answers given under an idempotency key."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class IdempotencyRecord(models.Model):
    """One use of an Idempotency-Key by one person.

    `status` is empty while the first call runs; it holds the key until `locked_until`, so that a process that
    died does not hold it for ever. Afterwards the answer is kept until `expires_at`.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=71, help_text="digest of method, path and body")
    locked_until = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    body = models.JSONField(null=True, blank=True)
    headers = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="api_idempotency_key_once_a_person")
        ]

    def __str__(self) -> str:
        return f"{self.key} ({self.status or 'running'})"
