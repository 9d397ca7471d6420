"""What sealing itself keeps."""

from __future__ import annotations

from django.db import models

THE_ONE = 1


class FingerprintKey(models.Model):
    """The key of all fingerprints, sealed. One row, made at the first use and kept for good: it outlives every
    encryption key, so that the same secret has the same fingerprint after a rotation."""

    sealed = models.TextField()

    def __str__(self) -> str:
        return "the key of all fingerprints"
