"""The keys that secrets are stored under. No Django: an engine's launcher uses them, too.

A sealed text is a token of Fernet (AES-128-CBC and HMAC-SHA256, made by `cryptography`). Several keys may be in force:
the newest seals, every one opens, so that keys can be changed while values under an old one are still stored.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from controlplane.kernel.errors import InvalidInput, Refused

SETTING = "HEADGATE_ENCRYPTION_KEYS"
HOW_TO_MAKE = "python -m controlplane.sealing prints one"
BETWEEN = re.compile(r"[\s,]+")


class KeyMissing(Refused):
    """A stored secret was sealed under a key that is not in force here."""

    code = "key-missing"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was encrypted with a key that is not here.",
            fix=f"Put the key it was stored under back into {SETTING}, or store the secret anew.",
        )


class KeyRing:
    """The keys in force, the newest first. Its text never shows them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises InvalidInput for a key that is none; the key is not repeated in it."""
        self._keys = tuple(keys)
        self._each = tuple(_fernet(key, position) for position, key in enumerate(keys, start=1))

    @classmethod
    def read(cls, text: str) -> KeyRing:
        """Keys by comma or line, the newest first. Raises InvalidInput."""
        return cls([key for key in BETWEEN.split(text) if key])

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}>"

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys themselves, for whoever hands them on."""
        return self._keys

    def seal(self, text: str) -> str:
        """The text under the newest key; every time another token. Raises Refused when there is no key."""
        if not self._each:
            raise Refused(
                "There is no key to store secrets under.",
                fix=f"Set {SETTING}; {HOW_TO_MAKE}.",
                code="key-missing",
            )
        return self._each[0].encrypt(text.encode()).decode()

    def open(self, sealed: str, *, what: str) -> str:
        """The text again. Raises KeyMissing with `what` as its subject when no key here opens it."""
        try:
            return MultiFernet(self._each).decrypt(sealed.encode()).decode() if self._each else _fail()
        except InvalidToken:
            raise KeyMissing(what) from None

    def renew(self, sealed: str, *, what: str) -> str:
        """The token under the newest key; the same token when it is under that already. Raises KeyMissing."""
        if not self._each:
            raise KeyMissing(what)
        try:
            self._each[0].decrypt(sealed.encode())
        except InvalidToken:
            return self.seal(self.open(sealed, what=what))
        return sealed


def new_key() -> str:
    """A key from the system's randomness."""
    return Fernet.generate_key().decode()


def checked_keys(value: str, *, setting: str) -> str:
    """A setting's keys. Raises InvalidInput naming the setting and the position, not the key."""
    try:
        KeyRing.read(value)
    except InvalidInput as error:
        raise InvalidInput(error.message, field=setting, fix=f"Mend {setting}; {HOW_TO_MAKE}.") from None
    return value


def _fernet(key: str, position: int) -> Fernet:
    try:
        if len(base64.urlsafe_b64decode(key.encode())) != 32:
            raise ValueError
        return Fernet(key)
    except ValueError:
        raise InvalidInput(
            f"Encryption key {position} is not 32 bytes in URL-safe base64.",
            field=SETTING,
            fix=f"Write a key as it was made; {HOW_TO_MAKE}.",
        ) from None


def _fail() -> str:
    raise InvalidToken
