"""Sealing with the keys of the settings, and fingerprints that tell one secret from another without telling it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache

from django.conf import settings

from controlplane.sealing.kept import kept_keys
from controlplane.sealing.keys import KeyRing
from controlplane.sealing.known import remember
from controlplane.sealing.models import THE_ONE, FingerprintKey

FINGERPRINT_DIGITS = 16


def key_ring() -> KeyRing:
    """The keys in force: of HEADGATE_ENCRYPTION_KEYS, else of the run folder's file as it is now."""
    environment = settings.HEADGATE
    return _ring(environment.encryption_keys or kept_keys(environment.run_dir))


@lru_cache(maxsize=4)
def _ring(text: str) -> KeyRing:
    ring = KeyRing.read(text)
    remember(*ring.keys)
    return ring


def seal(secret: str) -> str:
    """The secret as it may be stored. Raises Refused without a key."""
    remember(secret)
    return key_ring().seal(secret)


def fingerprint(name: str, secret: str) -> str:
    """The same for the same secret under the same name; without the key nobody can try guesses against it.

    Raises KeyMissing when the key of all fingerprints cannot be opened.
    """
    remember(secret)
    message = f"{name}\0{secret}".encode()
    return hmac.new(_fingerprint_key(), message, hashlib.sha256).hexdigest()[:FINGERPRINT_DIGITS]


def _fingerprint_key() -> bytes:
    row = FingerprintKey.objects.filter(pk=THE_ONE).first()
    if row is None:
        fresh = key_ring().seal(secrets.token_hex(32))
        row, _ = FingerprintKey.objects.get_or_create(pk=THE_ONE, defaults={"sealed": fresh})
    return bytes.fromhex(key_ring().open(row.sealed, what="The key of all fingerprints"))


def renew_fingerprint_key() -> bool:
    """Puts it under the newest encryption key; False when it is there already, or was never made."""
    row = FingerprintKey.objects.filter(pk=THE_ONE).first()
    if row is None:
        return False
    renewed = key_ring().renew(row.sealed, what="The key of all fingerprints")
    return bool(
        renewed != row.sealed
        and FingerprintKey.objects.filter(pk=row.pk, sealed=row.sealed).update(sealed=renewed)
    )
