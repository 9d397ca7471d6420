"""Rollouts that earlier versions recorded are decided again as they were: every byte but the wording of sentences.

Which fields are sentences is said in one place, `SENTENCES` of `rollouts/domain/record/comparing.py`, with what is not
seen by comparing them apart. No number of a recorded sentence may be missing in the one of today.

The files in `tests/fixtures/recordings` were written by the loop in a world in memory. They are never made anew: what
they hold is what installations have in their databases.

NAMES           before every arrival had an outcome
before-arms     before a canary had arms, and while engines were written with their addresses: a story a recording
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rollouts.domain.gates.policy import stored_policy
from rollouts.domain.record.comparing import LOG_E_TOLERANCE
from rollouts.domain.record.recorded import RecordedDecision, RecordedRow
from rollouts.domain.record.replay import Case, Replay
from rollouts.domain.record.whatif import WhatIf
from rollouts.domain.strategies.plans import stored_plan

RECORDINGS = Path(__file__).parents[3] / "fixtures" / "recordings"
NAMES = ("bandit", "baseline-in-outage", "killed-fast", "promoted", "rolled-back-by-latency")


BEFORE_ARMS: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((RECORDINGS / "before-arms.json.gz").read_bytes())
)


def recording(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((RECORDINGS / f"{name}.json.gz").read_bytes()))
    return found


def recorded(data: dict[str, Any]) -> tuple[Case, list[RecordedRow], list[RecordedDecision]]:
    case = Case(data["rollout_id"], stored_plan(data["plan"]), stored_policy(data["policy"]))
    rows = [RecordedRow.from_json(one) for one in data["rows"]]
    return case, rows, [RecordedDecision(**one) for one in data["decisions"]]


def assert_as_it_was(replay: Replay) -> None:
    """Identical, or with other last digits: on another processor or another numpy."""
    assert replay.first_other is None, replay.first_other
    if replay.first is not None:
        found = replay.first.difference
        assert isinstance(found.recorded, float), replay.first
        assert replay.log_e < LOG_E_TOLERANCE


def play(data: dict[str, Any]) -> Replay:
    case, rows, between = recorded(data)
    replay = Replay()
    for row in rows:
        while between and between[0].after <= row.index:
            replay = replay.after_decision(case, between.pop(0))
        replay = replay.after(case, row)
    for made in between:
        replay = replay.after_decision(case, made)
    last = (data["rows"] or data["decisions"])[-1]["situation"]["now"]
    return replay.ended(gates_state=data["gates_state"], verdicts=data["verdicts"], at=float(last))


@pytest.mark.parametrize("name", NAMES)
def test_recording_of_an_earlier_version__replayed__comes_out_as_it_was(name: str) -> None:
    replay = play(recording(name))
    assert_as_it_was(replay)
    assert replay.rows == len(recording(name)["rows"]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_policy_of_an_earlier_version__read_and_written__has_the_same_bytes(name: str) -> None:
    body = recording(name)["policy"]
    assert stored_policy(body).to_json() == body


@pytest.mark.parametrize("story", sorted(BEFORE_ARMS))
def test_story_recorded_before_arms__replayed__comes_out_as_it_was(story: str) -> None:
    data = BEFORE_ARMS[story]
    replay = play(data)
    assert_as_it_was(replay)
    assert (replay.rows, replay.decisions) == (len(data["rows"]), len(data["decisions"]))


@pytest.mark.parametrize("story", sorted(BEFORE_ARMS))
def test_story_recorded_before_arms__tried_with_its_own_policy__decides_the_same(story: str) -> None:
    data = BEFORE_ARMS[story]
    case, rows, between = recorded(data)
    course = WhatIf.begin(recorded="then", other="now", began=0.0)
    for row in rows:
        while between and between[0].after <= row.index:
            course = course.after_decision(case, between.pop(0))
        course = course.after(case, row)
    for made in between:
        course = course.after_decision(case, made)
    assert course.first is None


def test_stories_recorded_before_arms__are_of_both_strategies_and_of_every_event() -> None:
    found = {
        (data["plan"]["strategy"], made["decision"]["event"])
        for data in BEFORE_ARMS.values()
        for made in (*data["rows"], *data["decisions"])
    }
    both = {"provision", "start", "pause", "resume", "promote", "finish", "roll-back", "return", None}
    assert found >= {(strategy, event) for strategy in ("canary", "bandit") for event in both}
    assert found >= {("bandit", "drop"), ("bandit", "reweight"), ("canary", "advance"), ("canary", "give-up")}
