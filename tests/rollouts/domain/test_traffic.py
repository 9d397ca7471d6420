"""The base rate of a forecast is what was counted, and nothing where nothing was."""

from __future__ import annotations

import pytest

from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.record.intervals import Completions, Outcomes
from rollouts.domain.traffic import ended_share

ENDED = Outcomes(answered=80, refused_request=6, refused_rate=4, abandoned_before=7, abandoned_midway=3)
FINISHED = Completions(total=50, empty=5, truncated=10)


def gate(kind: str) -> GateSpec:
    return GateSpec.from_json({"key": kind, "kind": kind, "delta": 0.01, "weight": 1})


@pytest.mark.parametrize(
    ("kind", "share"), [("refused", 0.1), ("abandoned", 0.1), ("empty", 0.1), ("truncated", 0.2)]
)
def test_ended_share__of_what_was_counted(kind: str, share: float) -> None:
    assert ended_share(gate(kind), ENDED, FINISHED) == pytest.approx(share)


@pytest.mark.parametrize("kind", ["refused", "abandoned", "empty", "truncated"])
def test_ended_share__nothing_counted__is_unknown_and_never_zero(kind: str) -> None:
    assert ended_share(gate(kind), None, None) is None
    assert ended_share(gate(kind), Outcomes(), Completions(total=0)) is None


def test_ended_share__of_a_gate_on_something_else__is_unknown() -> None:
    assert ended_share(gate("error_rate"), ENDED, FINISHED) is None
