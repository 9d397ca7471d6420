"""People and the tokens that act for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.crypto import salted_hmac

from controlplane.access.roles import Action, Role, allows


class User(AbstractUser):
    """A person who signs in. `role` decides what they may do; Django's own groups are not used."""

    role = models.CharField(
        max_length=20, choices=[(role.value, role.words) for role in Role], default=Role.VIEWER.value
    )

    sessions_ended = models.PositiveIntegerField(
        default=0, help_text="how often all sessions were ended; part of what a session is checked against"
    )

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"

    def get_session_auth_hash(self) -> str:
        """What a session is checked against: it ends with the password, and when all sessions are ended."""
        plain = super().get_session_auth_hash()
        if self.sessions_ended == 0:
            return plain
        return salted_hmac(
            "headgate.sessions", f"{self.sessions_ended}:{plain}", algorithm="sha256"
        ).hexdigest()

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """The same for sessions from before the secret key was changed."""
        for secret, plain in zip(
            settings.SECRET_KEY_FALLBACKS, super().get_session_auth_fallback_hash(), strict=True
        ):
            if self.sessions_ended == 0:
                yield plain
                continue
            value = f"{self.sessions_ended}:{plain}"
            yield salted_hmac("headgate.sessions", value, secret=secret, algorithm="sha256").hexdigest()

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


class SignInTry(models.Model):
    """A try to sign in that was not successful, or is being checked; kept for an hour to slow guessing down.

    address     one address, or the /64 of an IPv6 one
    known       the person of that name has signed in from there before
    """

    name = models.CharField(max_length=150)
    address = models.CharField(max_length=64)
    known = models.BooleanField()
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["address", "at"], name="access_try_by_address"),
            models.Index(fields=["name", "at"], name="access_try_by_name"),
            models.Index(fields=["at"], name="access_try_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.name} from {self.address} at {self.at:%H:%M:%S}"


class KnownAddress(models.Model):
    """An address from which a person has signed in: guessing from elsewhere does not keep them out there."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="known_addresses")
    address = models.CharField(max_length=64)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "address"], name="access_known_address_once")]

    def __str__(self) -> str:
        return f"{self.user_id} from {self.address}"
