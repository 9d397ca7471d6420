from __future__ import annotations

from dataclasses import replace

from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.policy_changes import PolicyChange, policy_changes
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, policy


def test_policy_changes__other_name_and_version__is_no_change() -> None:
    old = policy(ERRORS, LATENCY)
    assert policy_changes(old, replace(old, name="other", version=9)) == ()


def test_policy_changes__values__are_named_with_before_and_after() -> None:
    old = policy(ERRORS)
    new = replace(
        old,
        alpha=0.01,
        fast_kill=FastKill(enabled=False),
        gates=(replace(old.gates[0], delta=0.02, required=False),),
    )
    assert policy_changes(old, new) == (
        PolicyChange("alpha", "0.05", "0.01"),
        PolicyChange("fast_kill.enabled", "true", "false"),
        PolicyChange("gates.errors.delta", "0.01", "0.02"),
        PolicyChange("gates.errors.required", "true", "false"),
    )


def test_policy_changes__gate_added_and_removed__are_one_line_each() -> None:
    changes = policy_changes(policy(ERRORS, QUALITY), policy(ERRORS, LATENCY))
    assert [(change.field, bool(change.before), bool(change.after)) for change in changes] == [
        ("gates.quality", True, False),
        ("gates.ttft", False, True),
    ]


def test_policy_changes__another_order__is_a_change_of_the_gates() -> None:
    assert policy_changes(policy(ERRORS, QUALITY), policy(QUALITY, ERRORS)) == (
        PolicyChange("gates", "errors, quality", "quality, errors"),
    )


def test_policy_changes__field_that_only_one_has__is_empty_on_the_other_side() -> None:
    old = policy(ERRORS)
    changes = policy_changes(old, policy({**QUALITY, "key": "errors", "label": old.gates[0].label}))
    assert PolicyChange("gates.errors.margin", "", "0.05") in changes
    assert PolicyChange("gates.errors.ratio", "1", "") in changes
