"""Rows at named states of life, made the way the loop makes them."""

from tests.factories.endpoints import endpoint, gate_policy, minutes_of_traffic, ratings, turns_fail, variant
from tests.factories.people import PASSWORD, person, right_now
from tests.factories.registry import golden_set, model, version
from tests.factories.rollouts import (
    BETTER,
    PLAN,
    WORSE,
    Behaviour,
    rollout_launch_failed,
    rollout_launching,
    rollout_paused,
    rollout_pending,
    rollout_progressing,
    rollout_promoted,
    rollout_rolled_back,
    with_outcomes,
)

__all__ = [
    "BETTER",
    "PASSWORD",
    "PLAN",
    "WORSE",
    "Behaviour",
    "endpoint",
    "gate_policy",
    "golden_set",
    "minutes_of_traffic",
    "model",
    "person",
    "ratings",
    "right_now",
    "rollout_launch_failed",
    "rollout_launching",
    "rollout_paused",
    "rollout_pending",
    "rollout_progressing",
    "rollout_promoted",
    "rollout_rolled_back",
    "turns_fail",
    "variant",
    "version",
    "with_outcomes",
]
