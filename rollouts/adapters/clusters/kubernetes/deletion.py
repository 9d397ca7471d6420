"""Who a deletion waits for. Kubernetes keeps an object until everybody who put a *finalizer* on it has taken that off
again. Pure; odd parts are taken as not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controlplane.kernel.errors import Unavailable
from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.pod_reading import part, text

ITS_OWN = "foregroundDeletion"  # what it owns is deleted first: Kubernetes takes it off by itself
MOST_NAMED = 5  # objects, and finalizers of each


def finalizers_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of those whom the object waits for."""
    found = part(raw, "metadata").get("finalizers")
    names = found if isinstance(found, list) else []
    return tuple(words_of(one, 100) for one in names if isinstance(one, str) and one)


def waits_for(objects: Iterable[Mapping[str, Any]], *, own: bool = False) -> str:
    """Whose finalizers keep which of these objects, as sentences; of those only that somebody deletes. Empty: nobody's.

    own   also say of an object that it waits for what it owns, which every deletion does for a while
    """
    said = []
    for one in objects:
        metadata = part(one, "metadata")
        if not text(metadata, "deletionTimestamp"):
            continue
        what = f"The {text(one, 'kind')} {text(metadata, 'name')}"
        names = finalizers_of(one)
        others = [name for name in names if name != ITS_OWN]
        if others:
            said.append(f"{what} waits until its finalizers are taken off: {_some(others)}.")
        elif names and own:
            said.append(f"{what} waits for what it owns to end ({ITS_OWN}).")
    left = len(said) - MOST_NAMED
    return " ".join(said[:MOST_NAMED]) + (f" {left} more objects wait, too." if left > 0 else "")


def still_deleted(variant: str, objects: Sequence[Mapping[str, Any]]) -> Unavailable:
    """The error for a variant that cannot be launched again before these objects are gone."""
    words = f"{variant} is still being deleted. {waits_for(objects, own=True)}".rstrip()
    by_hand = " Where whoever set a finalizer is gone, take it off by hand." if waits_for(objects) else ""
    return Unavailable(words, fix=f"It is tried again.{by_hand}")


def _some(names: list[str]) -> str:
    left = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {left} more" if left > 0 else "")
