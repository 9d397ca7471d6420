"""A cluster as it is written down: what kind of place it is, how that kind is set, and where its secret is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.kernel.digests import canonical_json


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What a row of the database says of a cluster. Not checked: a row may have been written by another version.

    kind           name of a kind of clusters
    configuration  what this kind needs to know; no secret is in it
    secret         name of a file in the folder of the clusters' secrets; empty: none
    """

    name: str
    kind: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    secret: str = ""

    @property
    def content(self) -> bytes:
        """Equal exactly for specs that say the same."""
        return canonical_json([self.name, self.kind, self.configuration, self.secret])
