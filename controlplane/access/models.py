"""People and the tokens that act for them."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.db import models

from controlplane.access.roles import Action, Role, allows


class User(AbstractUser):
    """A person who signs in. `role` decides what they may do; Django's own groups are not used."""

    role = models.CharField(
        max_length=20, choices=[(role.value, role.words) for role in Role], default=Role.VIEWER.value
    )

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"

    def may(self, action: Action) -> bool:
        """True when this person's role allows `action`."""
        return allows(self.role, action)

    @property
    def role_words(self) -> str:
        """The role as people write it: `release manager`."""
        return Role(self.role).words


class ApiToken(models.Model):
    """A secret that acts for its owner over the API, within its scopes. Only its hash is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16, help_text="how the secret begins")
    secret_sha256 = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="access_token_name_once_a_person")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_live(self, now: datetime) -> bool:
        """True when neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class FailedSignIn(models.Model):
    """A wrong password, kept for minutes to slow guessing down."""

    name = models.CharField(max_length=150)
    address = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["address", "at"], name="access_failed_by_address")]

    def __str__(self) -> str:
        return f"{self.name} from {self.address} at {self.at:%H:%M:%S}"
