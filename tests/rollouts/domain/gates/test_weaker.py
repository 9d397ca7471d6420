"""In what a policy is weaker: every single weakening is found, and what is not weaker is a promise."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.gates import weaker
from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.policy import GatePolicy, GateSpec, Reaction
from rollouts.domain.gates.weaker import weakenings
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, policy

ABSOLUTE = {"key": "refused", "kind": "refused", "ratio": 0.0, "delta": 0.05, "weight": 1.0}
REACTIONS = ("on_inconclusive", "on_no_data", "on_error")
RULES: dict[str, Any] = {**dict.fromkeys(REACTIONS, "rollback"), "baseline_outage_share": 0.2}
STRONG = policy(ERRORS, LATENCY, QUALITY, ABSOLUTE, **RULES)


def found(old: GatePolicy, new: GatePolicy) -> list[str]:
    return [one.field for one in weakenings(old, new)]


def with_gate(key: str, **changes: Any) -> GatePolicy:
    gates = tuple(replace(gate, **changes) if gate.key == key else gate for gate in STRONG.gates)
    return replace(STRONG, gates=gates)


# --- every policy there is, small enough that two of them often meet ------------------------------------------------

few = st.sampled_from
names = few(["errors", "ttft", "refused"])


@st.composite
def gates(draw: st.DrawFn, key: str, weight: float) -> GateSpec:
    common: dict[str, Any] = {
        "key": key,
        "label": draw(few(["A", "B"])),
        "mode": draw(few(["strict", "tolerant"])),
        "weight": weight,
        "required": draw(st.booleans()),
        "min_exposure": draw(few([10, 30])),
    }
    kind: Any = draw(few(["error_rate", "refused", "latency_slo", "paired"]))
    if kind == "paired":
        return GateSpec(kind="paired", margin=draw(few([0.05, 0.2])), **common)
    limit: dict[str, Any] = {"ratio": draw(few([0.0, 1.25, 2.0])), "delta": draw(few([0.01, 0.1]))}
    if kind == "latency_slo":
        latency: dict[str, Any] = {
            "slo_seconds": draw(few([0.25, 0.5])),
            "signal": draw(few(["ttft", "duration"])),
        }
        return GateSpec(kind="latency_slo", **common, **limit, **latency)
    return GateSpec(kind=kind, **common, **limit)


@st.composite
def policies(draw: st.DrawFn) -> GatePolicy:
    keys = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    first = draw(few([0.5, 0.25])) if len(keys) > 1 else 1.0
    rest = (1.0 - first) / max(len(keys) - 1, 1)
    reaction: st.SearchStrategy[Reaction] = few(["hold", "rollback"])
    kill = FastKill(
        enabled=draw(st.booleans()),
        window_seconds=draw(few([10.0, 30.0])),
        min_requests=draw(few([5, 20])),
        error_share=draw(few([0.5, 0.9])),
        baseline_error_share=draw(few([0.0, 0.1])),
        without_baseline=draw(st.booleans()),
        crash_restarts=draw(few([1, 3])),
        oom_kills=draw(few([1, 2])),
    )
    return GatePolicy(
        name="some",
        version=draw(few([1, 2])),
        gates=tuple(draw(gates(key, first if at == 0 else rest)) for at, key in enumerate(keys)),
        alpha=draw(few([0.01, 0.05])),
        beta=draw(few([0.05, 0.2])),
        fast_kill=kill,
        restart_every_seconds=draw(few([30.0, 60.0])),
        warm_up_requests=draw(few([0, 50])),
        stale_after_seconds=draw(few([60.0, 600.0])),
        baseline_outage_share=draw(few([None, 0.2, 0.5])),
        on_inconclusive=draw(reaction),
        on_no_data=draw(reaction),
        on_error=draw(reaction),
    )


@given(policies())
def test_weakenings__of_a_policy_and_itself__are_none(one: GatePolicy) -> None:
    assert weakenings(one, one) == ()
    assert weakenings(one, replace(one, name="another", version=9)) == ()


@settings(max_examples=60)
@given(policies(), policies())
def test_weakenings__none_in_either_direction__only_where_both_judge_alike(
    one: GatePolicy, two: GatePolicy
) -> None:
    if weakenings(one, two) or weakenings(two, one):
        return

    def judged(policy: GatePolicy) -> object:
        gates = {gate.key: replace(gate, label=gate.key) for gate in policy.gates}
        kill = policy.fast_kill if policy.fast_kill.enabled else None
        return replace(policy, name="same", version=1, fast_kill=FastKill()), gates, kill

    first, second = judged(one), judged(two)
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert first[1:] == second[1:]
    assert replace(first[0], gates=second[0].gates) == second[0]


@settings(max_examples=40)
@given(policies(), policies(), policies())
def test_weakenings__not_weaker_twice__is_not_weaker_in_the_end(
    one: GatePolicy, two: GatePolicy, three: GatePolicy
) -> None:
    if not weakenings(one, two) and not weakenings(two, three):
        assert weakenings(one, three) == ()


@given(policies(), st.data())
def test_weakenings__one_value_made_weaker__is_the_one_found(one: GatePolicy, data: st.DataObject) -> None:
    changed: tuple[str, Any] = data.draw(
        few(
            [
                ("alpha", one.alpha * 2),
                ("alpha", one.alpha / 2),
                ("beta", one.beta * 2),
                ("restart_every_seconds", one.restart_every_seconds * 2),
                ("warm_up_requests", one.warm_up_requests + 1),
                ("stale_after_seconds", one.stale_after_seconds + 1),
                ("baseline_outage_share", (one.baseline_outage_share or 0.3) + 0.1),
                *[(name, "hold") for name in REACTIONS if getattr(one, name) == "rollback"],
            ]
        )
    )  # fmt: skip
    field, value = changed
    assert found(one, replace(one, **{field: value})) == [field]


# --- by hand: each value once -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "changes", "field"),
    [
        ("errors", {"delta": 0.02}, "gates.errors.delta"),
        ("errors", {"ratio": 1000.0}, "gates.errors.ratio"),
        ("errors", {"mode": "tolerant"}, "gates.errors.mode"),
        ("errors", {"required": False}, "gates.errors.required"),
        ("errors", {"min_exposure": 1}, "gates.errors.min_exposure"),
        ("errors", {"ratio": 0.0}, "gates.errors.ratio"),
        ("refused", {"delta": 0.06}, "gates.refused.delta"),
        ("refused", {"ratio": 1.0}, "gates.refused.ratio"),
        ("quality", {"margin": 0.3}, "gates.quality.margin"),
        ("ttft", {"slo_seconds": 0.25}, "gates.ttft.slo_seconds"),
        ("ttft", {"slo_seconds": 1.0}, "gates.ttft.slo_seconds"),
        ("ttft", {"signal": "duration"}, "gates.ttft.signal"),
        ("errors", {"kind": "refused"}, "gates.errors.kind"),
    ],
)
def test_weakenings__one_value_of_a_gate__is_named(key: str, changes: dict[str, Any], field: str) -> None:
    assert found(STRONG, with_gate(key, **changes)) == [field]


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("errors", {"delta": 0.005}),
        ("ttft", {"ratio": 1.1}),
        ("ttft", {"mode": "strict"}),
        ("quality", {"margin": 0.01}),
        ("errors", {"min_exposure": 500}),
        ("errors", {"label": "Another name"}),
    ],
)
def test_weakenings__a_gate_made_stricter__are_none(key: str, changes: dict[str, Any]) -> None:
    assert found(STRONG, with_gate(key, **changes)) == []


def test_weakenings__a_gate_less_and_its_budget_given_away__name_the_gate_only() -> None:
    fewer = replace(STRONG, gates=(replace(STRONG.gates[0], weight=0.5), *STRONG.gates[2:]))
    (one,) = weakenings(STRONG, fewer)
    assert one.field == "gates.ttft"
    assert one.sentence == "gates.ttft: this gate is missing"


def test_weakenings__a_gate_more__takes_budget_from_the_others() -> None:
    """Every weight is a part of one budget: a new gate makes each other one find less."""
    more = policy(ERRORS, LATENCY, QUALITY, ABSOLUTE, {**ERRORS, "key": "new"}, **RULES)
    assert found(STRONG, more) == [f"gates.{gate.key}.weight" for gate in STRONG.gates]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"enabled": False}, "fast_kill.enabled"),
        ({"window_seconds": 10.0}, "fast_kill.window_seconds"),
        ({"min_requests": 21}, "fast_kill.min_requests"),
        ({"error_share": 0.6}, "fast_kill.error_share"),
        ({"baseline_error_share": 0.05}, "fast_kill.baseline_error_share"),
        ({"without_baseline": False}, "fast_kill.without_baseline"),
        ({"crash_restarts": 4}, "fast_kill.crash_restarts"),
        ({"oom_kills": 2}, "fast_kill.oom_kills"),
    ],
)
def test_weakenings__one_value_of_the_fast_kill__is_named(changes: dict[str, Any], field: str) -> None:
    assert found(STRONG, replace(STRONG, fast_kill=replace(STRONG.fast_kill, **changes))) == [field]


def test_weakenings__a_fast_kill_that_was_off__can_only_gain() -> None:
    off = replace(STRONG, fast_kill=FastKill(enabled=False))
    late = FastKill(crash_restarts=99, error_share=1.0)
    assert found(off, replace(STRONG, fast_kill=late)) == []


def test_weakenings__a_policy_from_before_outages_were_known__may_gain_the_usual_rule_only() -> None:
    old = replace(STRONG, baseline_outage_share=None)
    assert found(old, STRONG) == []
    assert found(old, replace(STRONG, baseline_outage_share=0.9)) == ["baseline_outage_share"]
    assert found(STRONG, old) == ["baseline_outage_share"]


def test_rules__of_every_value_of_a_policy__are_there() -> None:
    """A value that somebody adds has no rule yet: it would count as "not weaker" whatever it says."""
    compared_apart = {"gates", "fast_kill"}
    assert set(weaker.OF_THE_POLICY) | compared_apart == {one.name for one in fields(GatePolicy)}
    assert set(weaker.OF_THE_FAST_KILL) == {one.name for one in fields(FastKill)}
    assert set(weaker.OF_A_GATE) == {one.name for one in fields(GateSpec)}


def test_sentence__of_a_limit__has_both_values_and_what_is_lost() -> None:
    (one,) = weakenings(STRONG, with_gate("ttft", ratio=1000.0))
    assert one.sentence == "gates.ttft.ratio: 1.25 → 1000, a larger limit lets more worsening through"
