"""Who may say which requests a cluster's gateway answered: a token a cluster. Pure Python."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from controlplane.kernel.errors import InvalidInput

SHORTEST_TOKEN, LONGEST_TOKEN = 32, 200
HOW_TO_WRITE = (
    "Write CLUSTER=TOKEN by comma, a token of 32 to 200 letters, digits, dots, dashes and underscores;"
    " `openssl rand -hex 32` makes one."
)

_CLUSTER = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
_TOKEN = re.compile(rf"[A-Za-z0-9._-]{{{SHORTEST_TOKEN},{LONGEST_TOKEN}}}")


@dataclass(frozen=True, slots=True)
class Senders:
    """Tokens and whose they are. A cluster may have two, so that one can be changed while the other is in use.

    Its text shows no token.
    """

    clusters: tuple[str, ...]
    tokens: tuple[str, ...] = field(repr=False)

    @classmethod
    def read(cls, value: str, *, setting: str = "") -> Self:
        """Reads CLUSTER=TOKEN by comma. Raises InvalidInput, `field` being the setting; it repeats no token."""
        pairs = [pair.strip().partition("=") for pair in value.split(",") if pair.strip()]
        for number, (cluster, _, token) in enumerate(pairs, start=1):
            if not _CLUSTER.fullmatch(cluster):
                raise _wrong(setting, f"has no name of a cluster at place {number}")
            if not _TOKEN.fullmatch(token):
                raise _wrong(setting, f"has no usable token for {cluster}")
        tokens = tuple(token for _, _, token in pairs)
        if len(set(tokens)) < len(tokens):
            raise _wrong(setting, "has the same token twice, and nobody could tell whose it is")
        return cls(tuple(cluster for cluster, _, _ in pairs), tokens)

    def cluster_of(self, token: str) -> str:
        """Whose token this is; "" when it is nobody's. Takes as long for a wrong token as for a right one."""
        given = sha256(token.encode(errors="replace")).digest()
        found = ""
        for cluster, known in zip(self.clusters, self.tokens, strict=True):
            if hmac.compare_digest(given, sha256(known.encode()).digest()):
                found = cluster
        return found


def checked_senders(value: str, *, setting: str) -> str:
    """The value as it is used. Raises InvalidInput for one that cannot be read."""
    Senders.read(value, setting=setting)
    return value


def checked_cluster(name: str) -> str:
    """The name of a cluster as it can stand in a key or a file's name. Raises InvalidInput."""
    if not _CLUSTER.fullmatch(name):
        raise InvalidInput(
            f"{name!r:.120} is no name of a cluster.",
            field="cluster",
            fix="Lower-case letters, digits and dashes, at most 40, a letter first.",
        )
    return name


def _wrong(setting: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{setting or 'The list of senders'} {problem}.", field=setting, fix=HOW_TO_WRITE)
