"""A variant's anchor: the ConfigMap that owns its other objects and says how far it is.

made       all objects are there: from then on the variant is what it is, whatever becomes of the profile
draining   it was told to end, and when
unknown    since when no database knows it: whoever asks for it takes the note off
held       its autoscaler is kept from taking replicas away
attempt    counts launches: one that failed is tried again with pods of its own
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.names import (
    ENDPOINT_NAME,
    INSTALLATION,
    PREFIX,
    VARIANT,
    VARIANT_NAME,
    object_name,
)

MADE = f"{PREFIX}made"
DRAINING_SINCE = f"{PREFIX}draining-since"
ATTEMPT = f"{PREFIX}attempt"
SCALE_IN_HELD = f"{PREFIX}scale-in-held"
UNKNOWN_SINCE = f"{PREFIX}unknown-since"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Anchor:
    """What an anchor says. `draining_since` and `unknown_since` are seconds since the epoch; `installation` is the
    label of whose it is.
    """

    name: str
    uid: str
    variant: str
    endpoint: str
    made: bool
    draining_since: float | None
    unknown_since: float | None
    deleting: bool
    attempt: int
    scale_in_held: bool
    installation: str
    version: str
    raw: Mapping[str, Any]


def anchor_in(raw: Mapping[str, Any]) -> Anchor | None:
    """What the object says; None for one that is no anchor, as a copy under another name is none."""
    metadata = raw["metadata"]
    noted = metadata.get("annotations") or {}
    if VARIANT not in (metadata.get("labels") or {}) or VARIANT_NAME not in noted:
        return None
    if metadata["name"] != object_name(str(noted[VARIANT_NAME])):
        return None
    return Anchor(
        name=str(metadata["name"]),
        uid=str(metadata["uid"]),
        variant=str(noted[VARIANT_NAME]),
        endpoint=str(noted.get(ENDPOINT_NAME, "")),
        made=noted.get(MADE) == "true",
        draining_since=_seconds(str(noted.get(DRAINING_SINCE, ""))),
        unknown_since=_seconds(str(noted.get(UNKNOWN_SINCE, ""))),
        deleting=bool(metadata.get("deletionTimestamp")),
        attempt=_count(str(noted.get(ATTEMPT, ""))),
        scale_in_held=noted.get(SCALE_IN_HELD) == "true",
        installation=str(metadata["labels"].get(INSTALLATION, "")),
        version=str(metadata["resourceVersion"]),
        raw=raw,
    )


def sound_anchor_in(raw: Mapping[str, Any]) -> Anchor | None:
    """The same; None, too, for one that is odd: it hides no other."""
    try:
        return anchor_in(raw)
    except (KeyError, TypeError, AttributeError, ValueError):
        metadata = raw.get("metadata")
        name = metadata.get("name") if isinstance(metadata, Mapping) else ""
        log.warning("kubernetes.anchor_odd name=%s", words_of(str(name)[:100]))
        return None


def noted(raw: Mapping[str, Any], notes: Mapping[str, str | None]) -> dict[str, Any]:
    """An anchor's object, to be applied, with these annotations; None takes one away."""
    metadata = raw["metadata"]
    kept = {**(metadata.get("annotations") or {}), **notes}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": metadata["labels"],
            "annotations": {name: value for name, value in kept.items() if value is not None},
        },
        "data": raw["data"],
    }


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= 9 else 0
