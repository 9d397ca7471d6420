"""The kinds of clusters: a file a kind, and this table. Whoever reads clusters asks the table and knows no kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rollouts.adapters.kinds.kind import ClusterKind, Installation

__all__ = ["KINDS", "ClusterKind", "Installation"]


def _kubernetes() -> ClusterKind:
    from rollouts.adapters.kinds.kubernetes import KUBERNETES

    return KUBERNETES


def _local() -> ClusterKind:
    from rollouts.adapters.kinds.local import LOCAL

    return LOCAL


class _Kinds(Mapping[str, ClusterKind]):
    """A kind's file is read when the kind is first asked for: every process of an installation on one machine would
    otherwise read the client of Kubernetes, too."""

    def __init__(self, **kinds: Callable[[], ClusterKind]) -> None:
        self._kinds = kinds

    def __getitem__(self, name: str) -> ClusterKind:
        return self._kinds[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds


KINDS: Mapping[str, ClusterKind] = _Kinds(kubernetes=_kubernetes, local=_local)
