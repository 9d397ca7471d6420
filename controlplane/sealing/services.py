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
KEY_OF_NOTHING_STORED = secrets.token_bytes(32)  # of this process, so that its dry runs say the same again


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
    row = FingerprintKey.objects.filter(pk=THE_ONE).first()
    if row is None:
        fresh = key_ring().seal(secrets.token_hex(32))
        row, _ = FingerprintKey.objects.get_or_create(pk=THE_ONE, defaults={"sealed": fresh})
    return _under(_opened(row), name, secret)


def fingerprint_tried_dry(name: str, secret: str) -> str:
    """What `fingerprint` would say, without writing: before the first stored secret there is no key of fingerprints,
    and this is then one that no stored secret will have.

    Raises Refused without a key, KeyMissing like `fingerprint`.
    """
    row = FingerprintKey.objects.filter(pk=THE_ONE).first()
    if row is None:
        key_ring().seal("")  # what could not be stored is refused
        return _under(KEY_OF_NOTHING_STORED, name, secret)
    return _under(_opened(row), name, secret)


def _opened(row: FingerprintKey) -> bytes:
    return bytes.fromhex(key_ring().open(row.sealed, what="The key of all fingerprints"))


def _under(key: bytes, name: str, secret: str) -> str:
    remember(secret)
    return hmac.new(key, f"{name}\0{secret}".encode(), hashlib.sha256).hexdigest()[:FINGERPRINT_DIGITS]


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
