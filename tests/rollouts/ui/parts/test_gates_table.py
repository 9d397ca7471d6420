"""Verdicts as rows: words, tones, and what stands out."""

from __future__ import annotations

import pytest

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import ArmCounts, Interval
from rollouts.domain.record.numbers import NumberReading
from rollouts.models import Rollout
from rollouts.ui.parts.gates_table import GatesTable, family_table, gates_table
from tests import factories

pytestmark = pytest.mark.django_db


def table_of(rollout: Rollout) -> GatesTable:
    return gates_table(rollout.gate_policy.policy, rollout.verdicts)


def test_table__nothing_measured__every_gate_has_no_data() -> None:
    table = table_of(factories.rollout_pending())
    assert [(row.verdict, row.tone, row.estimate) for row in table.rows] == [("No data", "mute", None)] * 4
    assert table.counts == (("mute", "4 no data", "circle-dashed"),)
    assert not table.measured


def test_table__measured__shows_the_real_verdicts_with_their_sentences() -> None:
    table = table_of(factories.rollout_progressing())
    quality = table.rows[0]
    assert (quality.label, quality.verdict, quality.tone) == ("Golden-set score", "Pass", "pass")
    assert quality.sentence.startswith("Golden-set score is within its limit: ")
    assert quality.picture.endswith("tolerant gate, mark: limit")
    assert table.evidence < 1.5
    assert table.evidence_tone == "pass"


def test_table__fixed_limit__shows_the_number_and_that_it_is_no_test() -> None:
    heat = {
        "key": "heat", "label": "GPU temperature", "kind": "metric_limit", "query": 'n{v="{{variant}}"}',
        "limit": 85, "direction": "at_most", "fail_readings": 2,
    }  # fmt: skip
    errors = {"key": "errors", "kind": "error_rate", "delta": 0.01}
    policy = GatePolicy.from_json({"name": "p", "version": 1, "gates": [errors, heat]})
    number = policy.gates[1].number
    assert number is not None
    state = GatesState.initial(policy)
    for index in range(2):
        numbers = {number.digest: NumberReading(90.25, float(index))}
        arms = {"candidate": ArmCounts(50, 0, 50, 1.0, numbers=numbers)}
        state = state.update(Interval(index, 5.0 * index, 5.0, 5_000, arms))
    row = family_table(policy, state.assess()).rows[1]
    assert (row.candidate, row.baseline, row.limit, row.verdict) == ("90.25", "no data", "at most 85", "Fail")
    assert (row.exposure, row.counted, row.fixed) == ("2", "readings", True)
    assert row.estimate == pytest.approx(90.25 / 85)
    assert row.picture == "GPU temperature: change 90.25, limit at most 85, fail; a fixed limit, mark: limit"


def test_table__a_gate_fails__only_that_row_stands_out() -> None:
    table = table_of(factories.rollout_rolled_back())
    assert [mark for _, mark in table.marked_rows] == ["bad", "", "", ""]
    assert table.evidence >= table.threshold == 20
    assert table.evidence_tone == "fail"
    assert table.largest == "Golden-set score"


def test_table__open_gates_and_no_failure__stand_out() -> None:
    table = table_of(factories.rollout_progressing())
    marks = {row.label: mark for row, mark in table.marked_rows}
    assert marks["Time to first token"] == "attn"
    assert marks["Golden-set score"] == ""


def test_table__policy_gained_a_gate__that_gate_has_no_data() -> None:
    rollout = factories.rollout_progressing()
    body = rollout.gate_policy.policy.to_json()
    for gate in body["gates"]:
        gate["weight"] /= 2
    body["gates"].append({"key": "new", "kind": "error_rate", "delta": 0.5, "weight": 0.5})
    table = gates_table(GatePolicy.from_json(body), rollout.verdicts)
    assert table.rows[-1].verdict == "No data"


def test_table__scores_and_shares__are_written_as_such() -> None:
    quality, errors, *_ = table_of(factories.rollout_progressing()).rows
    assert "%" not in quality.candidate
    assert errors.candidate.endswith("%")
