"""The kinds of clusters: a file a kind, and this table. Whoever reads clusters asks the table and knows no kind."""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.adapters.kinds.kind import ClusterKind, Installation
from rollouts.adapters.kinds.kubernetes import KUBERNETES
from rollouts.adapters.kinds.local import LOCAL

__all__ = ["KINDS", "ClusterKind", "Installation"]

KINDS: Mapping[str, ClusterKind] = {kind.name: kind for kind in (KUBERNETES, LOCAL)}
