"""A secret in a serving spec: never the value itself, but where it is, or the value as it is stored.

As JSON, in a spec that somebody sends:

    {"secret": {"file": "hf-token"}}                              a file of the operator's folder of secrets
    "hf_..."                                                      the value itself, once
    {"secret": true, "set": true, "fingerprint": "9f2c..."}       as the stable variant has it: what is shown of a value

Stored, a value is `{"secret": {"sealed": TOKEN, "fingerprint": ...}}`. Another kind of reference is another class here
and another key beside `file`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.kernel.errors import InvalidInput

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
FINGERPRINT = re.compile(r"[0-9a-f]{0,64}")
HOW_TO_GIVE = (
    'Give it as {"secret": {"file": NAME}}, a file of the operator\'s folder of secrets, or as its value.'
)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file of the operator's folder of secrets. Only its name is stored; it is read at every launch."""

    name: str

    @property
    def words(self) -> str:
        """What pages show."""
        return f"secret file {self.name}"

    def to_json(self) -> dict[str, Any]:
        return {"secret": {"file": self.name}}

    def identity(self) -> dict[str, Any]:
        """What a variant's digest covers: the name. Another content of the file is the same variant."""
        return self.to_json()

    def to_public(self) -> dict[str, Any]:
        return self.to_json()


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A value as it is stored: encrypted, with the fingerprint that tells it from others."""

    sealed: str = field(repr=False)
    fingerprint: str

    @property
    def words(self) -> str:
        return f"set, hidden ({self.fingerprint[:8]})"

    def to_json(self) -> dict[str, Any]:
        return {"secret": {"sealed": self.sealed, "fingerprint": self.fingerprint}}

    def identity(self) -> dict[str, Any]:
        """The fingerprint alone: sealed again, the same value is the same variant."""
        return {"secret": {"fingerprint": self.fingerprint}}

    def to_public(self) -> dict[str, Any]:
        return {"secret": True, "set": True, "fingerprint": self.fingerprint}


@dataclass(frozen=True, slots=True)
class KeptSecret:
    """The value that the stable variant has under this name: what is shown of a value, sent back."""

    fingerprint: str

    @property
    def words(self) -> str:
        return "set, hidden"

    def to_json(self) -> dict[str, Any]:
        return {"secret": True, "set": True, "fingerprint": self.fingerprint}

    identity = to_public = to_json


Secret = SecretFile | SealedSecret | KeptSecret
SECRETS = (SecretFile, SealedSecret, KeptSecret)


def environment_json(environment: Mapping[str, str | Secret]) -> dict[str, Any]:
    """Variables as they are kept: a secret as its reference or sealed, never open."""
    return {name: value if isinstance(value, str) else value.to_json() for name, value in environment.items()}


def stored_environment(data: Mapping[str, Any]) -> dict[str, str | Secret]:
    """As `environment_json` wrote it. Raises InvalidInput naming the variable."""
    return {
        name: value if isinstance(value, str) else read_secret(value, where=name, stored=True)
        for name, value in data.items()
    }


def read_secret(data: Mapping[str, Any], *, where: str, stored: bool = False) -> Secret:
    """The secret of an object with the key `secret`.

    stored   the data is what we stored ourselves: only then it may hold a sealed value
    Raises InvalidInput naming `where`; nothing of the data is repeated in it.
    """
    inner = data.get("secret")
    if inner is True and set(data) <= {"secret", "set", "fingerprint"}:
        kept = data.get("fingerprint", "")
        if isinstance(kept, str) and FINGERPRINT.fullmatch(kept):
            return KeptSecret(kept)
    if set(data) == {"secret"} and isinstance(inner, Mapping):
        if set(inner) == {"file"} and isinstance(inner["file"], str) and FILE_NAME.fullmatch(inner["file"]):
            return SecretFile(inner["file"])
        if stored and set(inner) == {"sealed", "fingerprint"}:
            return SealedSecret(str(inner["sealed"]), str(inner["fingerprint"]))
        if set(inner) == {"file"}:
            raise InvalidInput(
                "This is no name of a file in the folder of secrets.",
                field=where,
                fix="A name has letters, digits, dots, dashes and underscores, at most 100; no folders.",
                code="secret-reference",
            )
    raise InvalidInput("This is no secret.", field=where, fix=HOW_TO_GIVE, code="secret-reference")
