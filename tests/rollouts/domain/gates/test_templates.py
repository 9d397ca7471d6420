"""The gates that a new policy begins with."""

from __future__ import annotations

from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.templates import DEFAULT_GATES


def test_default_gates__as_a_policy__are_sound_and_survive_being_written() -> None:
    policy = GatePolicy(name="default", version=1, gates=DEFAULT_GATES)
    assert GatePolicy.from_json(policy.to_json()) == policy


def test_default_gates__refusals_and_departures__stand_beside_errors() -> None:
    assert {"error_rate", "refused", "abandoned"} <= {gate.kind for gate in DEFAULT_GATES}


def test_default_gates__what_an_endpoint_may_not_have__is_not_required() -> None:
    assert {gate.key for gate in DEFAULT_GATES if not gate.required} == {"quality", "thumbs"}
