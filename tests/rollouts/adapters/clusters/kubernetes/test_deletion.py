"""Who a deletion waits for, in words."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.deletion import finalizers_of, waits_for


def deleted(kind: str, name: str, *finalizers: str) -> dict[str, Any]:
    metadata = {"name": name, "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": list(finalizers)}
    return {"kind": kind, "metadata": metadata}


def test_waits_for__finalizers_of_others__are_named_with_their_object() -> None:
    found = waits_for([deleted("Pod", "chat-1", "team.example/backup", "foregroundDeletion")])
    assert found == "The Pod chat-1 waits until its finalizers are taken off: team.example/backup."


def test_waits_for__what_it_owns__is_said_where_it_is_asked_for() -> None:
    anchor = deleted("ConfigMap", "chat", "foregroundDeletion")
    assert waits_for([anchor]) == ""
    assert waits_for([anchor], own=True) == (
        "The ConfigMap chat waits for what it owns to end (foregroundDeletion)."
    )


def test_waits_for__object_that_nobody_deletes__is_left_out() -> None:
    kept = {"kind": "Pod", "metadata": {"name": "chat-1", "finalizers": ["team.example/backup"]}}
    assert waits_for([kept]) == ""


def test_waits_for__very_many__are_counted() -> None:
    found = waits_for(deleted("Pod", f"p{one}", *(f"f{number}" for number in range(9))) for one in range(9))
    assert found.count("waits until") == 5
    assert "f4 and 4 more." in found
    assert found.endswith("4 more objects wait, too.")


@pytest.mark.parametrize("odd", [{}, {"metadata": 7}, {"metadata": {"finalizers": [7, None, ""]}}])
def test_finalizers__odd__are_none(odd: dict[str, Any]) -> None:
    assert finalizers_of(odd) == ()
