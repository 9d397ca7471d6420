"""The form of a policy: every field is in it, nothing is lost on the way there and back."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.policy import GateKind, GatePolicy, GateSpec
from rollouts.domain.gates.problems import policy_problems
from rollouts.ui.parts.gate_words import HELP, MEASURES, NAMES, hint_of, unit_of
from rollouts.ui.policies.form import (
    CHOICES,
    FAST_KILL,
    FAST_KILL_FLAGS,
    GATE_NUMBERS,
    GATE_TEXTS,
    MAX_GATES,
    NEW_GATES,
    NUMBERS,
    PolicyForm,
    field_text,
    form_of,
    meaning_of,
    read_form,
    switched,
    value_of,
    weight_sum,
)
from tests.factories.endpoints import POLICY_BODY

BODY: dict[str, Any] = POLICY_BODY
POLICY = GatePolicy.from_json(BODY)


def sent_of(form: PolicyForm, **changed: str | None) -> dict[str, str]:
    """What a browser sends for a form as it was shown; None leaves a field out."""
    sent: dict[str, str | None] = {
        "view": form.view,
        "based_on": str(form.based_on),
        "rows": form.rows,
        "note": form.note,
        "numbers_of": form.numbers_of,
    }
    if form.view == "yaml":
        sent["text"] = form.text
    else:
        sent |= form.typed
        sent |= {name: "on" for name, on in form.flags.items() if on}
        for gate in form.gates:
            sent[f"kind-{gate.row}"] = gate.kind
            sent |= {f"{name}-{gate.row}": value for name, value in gate.typed.items()}
            if gate.required:
                sent[f"required-{gate.row}"] = "on"
    return {name: value for name, value in {**sent, **changed}.items() if value is not None}


def form(**changed: Any) -> PolicyForm:
    return read_form(sent_of(form_of(POLICY, name="p", based_on=1), **changed), name="p")


def read(given: PolicyForm) -> GatePolicy:
    return GatePolicy.from_json({**meaning_of(given).body, "name": POLICY.name, "version": POLICY.version})


def problems(given: PolicyForm) -> list[str]:
    return [one.field for one in policy_problems({**meaning_of(given).body, "name": "p", "version": 1})]


def test_form__fields_of_policy_gate_and_fast_kill__are_all_there() -> None:
    top = {one.field for one in (*NUMBERS, *CHOICES)} | {"name", "version", "gates", "fast_kill"}
    assert top == {one.name for one in fields(GatePolicy)}
    fast = {one.field for one in FAST_KILL} | {name for name, _ in FAST_KILL_FLAGS}
    assert fast == {f"fast_kill.{one.name}" for one in fields(FastKill)}
    gate = {stored for stored, _ in GATE_NUMBERS.values()} | {*GATE_TEXTS, "kind", "required"}
    assert gate == {one.name for one in fields(GateSpec)}


@pytest.mark.parametrize("view", ["form", "yaml"])
def test_form_of__sent_back_unchanged__is_the_same_policy(view: str) -> None:
    shown_form = form_of(POLICY, name="p", based_on=1, view=view)
    assert read(read_form(sent_of(shown_form), name="p")) == POLICY


@given(
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    delta=st.floats(0.0001, 0.9),
    slo=st.floats(0.001, 1_000),
    alpha=st.floats(0.0001, 0.5),
)
def test_form_of__any_numbers__come_back_as_they_are(
    weights: list[int], delta: float, slo: float, alpha: float
) -> None:
    gates = [
        {**gate, "weight": part / sum(weights)} for gate, part in zip(BODY["gates"], weights, strict=True)
    ]
    gates[1] |= {"delta": delta}
    gates[2] |= {"slo_seconds": slo}
    policy = GatePolicy.from_json({**BODY, "gates": gates, "alpha": alpha})
    again = read(read_form(sent_of(form_of(policy, name="p", based_on=1)), name="p"))
    assert again.alpha == pytest.approx(alpha, rel=1e-12)
    assert [gate.weight for gate in again.gates] == [gate.weight for gate in policy.gates]
    assert again.gates[1].delta == pytest.approx(delta, rel=1e-9)
    assert again.gates[2].slo_seconds == pytest.approx(slo, rel=1e-9)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"alpha": "much"}, "alpha"),
        ({"alpha": ""}, "alpha"),
        ({"alpha": "nan"}, "alpha"),
        ({"warm_up_requests": "1.5"}, "warm_up_requests"),
        ({"on_error": "shrug"}, "on_error"),
        ({"fast_kill.error_share": "5"}, "fast_kill.baseline_error_share"),
        ({"fast_kill.oom_kills": "0"}, "fast_kill.oom_kills"),
        ({"key-1": "quality"}, "gates[1].key"),
        ({"key-1": ""}, "gates[1].key"),
        ({"margin-0": ""}, "gates[0].margin"),
        ({"delta-1": "many"}, "gates[1].delta"),
        ({"slo-2": "0"}, "gates[2].slo_seconds"),
        ({"signal-2": "pulse"}, "gates[2].signal"),
        ({"mode-3": "mild"}, "gates[3].mode"),
        ({"exposure-3": "-1"}, "gates[3].min_exposure"),
        ({"kind-3": "vibes"}, "gates[3].kind"),
        ({"weight-3": "0.2"}, "gates"),
        ({"weight-3": ""}, "gates[3].weight"),
        ({"rows": ""}, "gates"),
    ],
)
def test_meaning_of__one_mistake__is_found_where_it_was_made(changed: dict[str, str], field: str) -> None:
    assert problems(form(**changed)) == [field]


def test_meaning_of__no_weight_at_all__is_equal_parts() -> None:
    typed = form(**{f"weight-{row}": "" for row in range(4)})
    assert {gate.weight for gate in read(typed).gates} == {0.25}
    assert weight_sum(typed, meaning_of(typed)) is None


def test_meaning_of__numbers_as_people_write_them__are_read() -> None:
    typed = form(**{"warm_up_requests": "1,000", "ratio-2": "×1.5"})
    assert problems(typed) == []
    assert read(typed).warm_up_requests == 1_000


def test_weight_sum__some_unreadable__sums_the_rest() -> None:
    typed = form(**{"weight-0": "x", "weight-1": "0.5"})
    assert weight_sum(typed, meaning_of(typed)) == pytest.approx(0.9)


@pytest.mark.parametrize("kind", list(NEW_GATES))
def test_read_form__add_a_gate__is_sound_once_it_has_a_weight(kind: str) -> None:
    empty = read_form(
        {"rows": "", **form_of(POLICY, name="p", based_on=1).typed, "change": f"add-{kind}"}, name="p"
    )
    assert [gate.kind for gate in empty.gates] == [kind]
    assert problems(empty) == (["gates"] if kind == "metric_limit" else [])  # which compares with nothing
    more = form(change=f"add-{kind}")
    assert len(more.gates) == 5
    assert len({gate.typed["key"] for gate in more.gates}) == 5
    assert len({gate.row for gate in more.gates}) == 5


def test_form_of__gate_on_counters_of_ones_own__keeps_its_queries_as_they_were_typed() -> None:
    added = form(change="add-counter_ratio")
    typed = {**added.gates[4].typed, "weight": "1", "bad_query": 'bad{pod=~"{{pods}}", why!=""}  # ours'}
    policy = read(replace(added, gates=(replace(added.gates[4], typed=typed),)))
    assert policy.gates[0].bad_query == 'bad{pod=~"{{pods}}", why!=""}  # ours'
    assert read(read_form(sent_of(form_of(policy, name="p", based_on=1)), name="p")) == policy


@pytest.mark.parametrize("name", ["bad_query", "all_query"])
def test_meaning_of__query_with_an_unknown_placeholder__is_found_where_it_was_made(name: str) -> None:
    typed = form(change="add-counter_ratio", **{"weight-3": "0.1"})
    sent = sent_of(typed, **{f"{name}-4": 'x{v="{{version}}"}', "weight-4": "0.1"})
    assert problems(read_form(sent, name="p")) == [f"gates[4].{name}"]


def test_form_of__fixed_limit__keeps_what_was_typed_and_takes_no_weight() -> None:
    added = form(change="add-metric_limit")
    typed = sent_of(added, **{"limit-4": "0.25", "direction-4": "at_least", "fail_readings-4": "2"})
    changed = read_form({**typed, "change": "equal-weights"}, name="p")
    assert problems(changed) == []
    gate = read(changed).gates[4]
    assert (gate.limit, gate.direction, gate.fail_readings, gate.pass_readings) == (0.25, "at_least", 2, 12)
    assert (gate.weight, read(changed).gates[0].weight) == (0.0, 0.25)
    assert read(read_form(sent_of(form_of(read(changed), name="p", based_on=1)), name="p")) == read(changed)


@pytest.mark.parametrize("name", ["query", "limit"])
def test_meaning_of__fixed_limit_without_one__is_found_where_it_was_left_out(name: str) -> None:
    sent = sent_of(form(change="add-metric_limit"), **{f"{name}-4": ""})
    assert problems(read_form(sent, name="p")) == [f"gates[4].{name}"]


def test_read_form__remove_a_gate__leaves_the_others_in_their_rows() -> None:
    assert [gate.row for gate in form(change="remove-1").gates] == [0, 2, 3]
    assert [gate.row for gate in form(change="remove-9").gates] == [0, 1, 2, 3]


def test_read_form__equal_weights__sum_to_one() -> None:
    typed = form(change="equal-weights")
    assert weight_sum(typed, meaning_of(typed)) == pytest.approx(1, abs=1e-12)
    assert problems(typed) == []


def test_read_form__too_many_gates__are_cut() -> None:
    assert len(form(rows=",".join(str(row) for row in range(100))).gates) == MAX_GATES
    full = form(rows=",".join(str(row) for row in range(MAX_GATES)), change="add-paired")
    assert len(full.gates) == MAX_GATES


@pytest.mark.parametrize("rows", ["x", "1,1,1", "-3", "9999999", ",,", "²"])
def test_read_form__rows_that_are_none__are_not_there(rows: str) -> None:
    assert len(form(rows=rows).gates) <= 1


def test_read_form__yaml__keeps_the_text_as_typed() -> None:
    text = "alpha: [\r\n  # broken"
    typed = read_form({"view": "yaml", "text": text}, name="p")
    assert typed.text == "alpha: [\n  # broken"
    assert meaning_of(typed).problem is not None


def test_switched__to_yaml_and_back__is_the_same_policy_with_what_was_noted() -> None:
    noted = form(note="because", numbers_of="triage")
    there = switched(noted, read(noted), "yaml")
    assert (there.view, there.note, there.numbers_of) == ("yaml", "because", "triage")
    assert read(switched(there, read(there), "form")) == POLICY


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_shown__number__is_read_back_as_itself(value: float) -> None:
    assert value_of(field_text(value)) == value


def test_form__policy_from_before_outages_were_known__keeps_to_itself_and_gets_the_rule_when_typed() -> None:
    old = GatePolicy.from_json(
        {name: value for name, value in BODY.items() if name != "baseline_outage_share"}
    )
    assert old.baseline_outage_share is None
    shown_form = form_of(old, name="p", based_on=1)
    assert shown_form.typed["baseline_outage_share"] == ""
    assert "baseline_outage_share" not in meaning_of(read_form(sent_of(shown_form), name="p")).body
    assert read(form(baseline_outage_share="35")).baseline_outage_share == 0.35
    assert problems(form(baseline_outage_share="0")) == ["baseline_outage_share"]


def test_words__every_kind_of_gate__has_a_button_a_start_and_three_sentences() -> None:
    kinds = set(get_args(GateKind))
    assert set(NEW_GATES) == set(NAMES) == set(MEASURES) == set(HELP) == kinds
    assert {kind: text.count(". ") + 1 for kind, text in HELP.items()} == dict.fromkeys(kinds, 3)
    for kind in kinds:
        gate = GateSpec.from_json(
            {"key": kind, "kind": kind, "weight": 1, **LIMITS.get(kind, {"delta": 0.1})}
        )
        assert hint_of(gate)
        assert unit_of(gate)


LIMITS: dict[str, dict[str, Any]] = {
    "counter_ratio": {"delta": 0.1, "bad_query": 'b{v="{{variant}}"}', "all_query": 'a{v="{{variant}}"}'},
    "metric_limit": {"weight": 0, "query": 'n{v="{{variant}}"}', "limit": 1, "direction": "at_least"},
    "paired": {"margin": 0.1},
    "latency_slo": {"delta": 0.1, "signal": "ttft", "slo_seconds": 0.5},
}
