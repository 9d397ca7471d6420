"""All mistakes of a policy at once, each with its field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.problems import policy_problems
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY

THREE = ((ERRORS, 0.4), (LATENCY, 0.3), (QUALITY, 0.3))


def body(*gates: dict[str, Any], **changes: Any) -> dict[str, Any]:
    written = list(gates) or [{**gate, "weight": part} for gate, part in THREE]
    return {"name": "p", "version": 1, "gates": written, **changes}


def fields(data: object) -> list[str]:
    return [problem.field for problem in policy_problems(data)]


def test_policy_problems__sound_policy__has_none() -> None:
    assert policy_problems(body()) == ()


def test_policy_problems__mistakes_everywhere__are_all_found() -> None:
    data = body(
        {**ERRORS, "mode": "mild", "delta": 7},
        {**LATENCY, "min_exposure": -1},
        QUALITY,
        alpha=2,
        on_error="shrug",
        fast_kill={"oom_kills": 0},
        colour="red",
    )
    assert set(fields(data)) == {
        "gates[0].mode",
        "gates[0].delta",
        "gates[1].min_exposure",
        "fast_kill.oom_kills",
        "alpha",
        "on_error",
        "colour",
    }


def test_policy_problems__one_gate_unreadable__weights_are_not_judged_yet() -> None:
    data = body({**ERRORS, "weight": 0.5}, {**LATENCY, "kind": "vibes", "weight": 0.9})
    assert fields(data) == ["gates[1].kind"]


def test_policy_problems__weights_that_do_not_sum_to_one__are_one_problem_of_the_gates() -> None:
    assert fields(body({**ERRORS, "weight": 0.5}, {**LATENCY, "weight": 0.4})) == ["gates"]


def test_policy_problems__one_gate__all_its_mistakes_are_found_and_no_other() -> None:
    data = body({**LATENCY, "slo_seconds": "soon", "mode": "mild", "delta": "much", "key": ""})
    assert set(fields(data)) == {f"gates[0].{name}" for name in ("key", "mode", "slo_seconds", "delta")}


def test_policy_problems__limit_that_cannot_be_read__does_not_blame_the_other_half() -> None:
    assert fields(body({**ERRORS, "delta": "much"})) == ["gates[0].delta"]


@pytest.mark.parametrize("data", [None, [], "policy", {}, {"name": "p", "version": 1}, {"gates": {}}])
def test_policy_problems__no_policy_at_all__is_still_named(data: object) -> None:
    assert policy_problems(data)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just([]), st.just({})
)
NAMES = st.sampled_from(["alpha", "beta", "gates", "fast_kill", "on_error", "warm_up_requests", "what"])
GATE_NAMES = st.sampled_from(
    ["key", "kind", "mode", "weight", "ratio", "delta", "margin", "slo_seconds", "x"]
)


@given(st.dictionaries(NAMES, JUNK, max_size=3), st.dictionaries(GATE_NAMES, JUNK, max_size=3))
def test_policy_problems__whatever_is_written__agrees_with_the_reader(
    top: dict[str, Any], inside: dict[str, Any]
) -> None:
    data = {**body({**LATENCY, "weight": 0.5, **inside}, {**ERRORS, "weight": 0.5}), **top}
    try:
        GatePolicy.from_json(data)
    except InvalidInput:
        assert policy_problems(data)
    else:
        assert policy_problems(data) == ()
