"""The container image that an engine is started from: a reference as registries of images know it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput

LONGEST_REPOSITORY = 255
LONGEST = LONGEST_REPOSITORY + len(":") + 128 + len("@sha256:") + 64  # with a tag and a digest
PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{{1,5}})?/)?{PART}(?:/{PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FIX = "Write REPOSITORY@sha256:DIGEST, REPOSITORY:TAG, or REPOSITORY:TAG@sha256:DIGEST."


@dataclass(frozen=True, slots=True)
class Image:
    """A reference, for example `registry.example/vllm:v1.2@sha256:...`.

    digest   the image that is meant, whatever the tag says meanwhile; empty: whatever the tag says at a launch
    """

    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, value: Any, *, field: str) -> Self:
        """As somebody sent it. Raises InvalidInput with this field for what is no reference, and for one that names no
        image of its repository: what `latest` means changes by itself."""
        if not isinstance(value, str):
            raise InvalidInput("An image is a text.", field=field, fix=FIX)
        found = cls.stored(value)
        sound = (
            str(found) == value  # no empty tag or digest
            and len(found.repository) <= LONGEST_REPOSITORY
            and REPOSITORY.fullmatch(found.repository)
            and (not found.tag or TAG.fullmatch(found.tag))
            and (not found.digest or DIGEST.fullmatch(found.digest))
        )
        if not sound:
            raise InvalidInput("This is no reference to an image.", field=field, fix=FIX)
        if not found.tag and not found.digest:
            raise InvalidInput("It does not say which image of the repository.", field=field, fix=FIX)
        return found

    @classmethod
    def stored(cls, text: str) -> Self:
        """As `str` gave it; not checked again."""
        rest, _, digest = text.partition("@")
        repository, _, tag = rest.rpartition(":")
        if not repository or "/" in tag:  # no colon, or that of a port
            repository, tag = rest, ""
        return cls(repository, tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")
