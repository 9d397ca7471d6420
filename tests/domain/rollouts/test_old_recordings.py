"""Rollouts that an earlier version recorded, before every arrival had an outcome, are decided again as they were.

The files in `tests/fixtures/recordings` were written by the loop of version 0.2.0 in a world in memory. They are never
made anew: what they hold is what installations have in their databases.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.plan import Plan
from rollouts.domain.recorded import RecordedDecision, RecordedRow
from rollouts.domain.replay import Case, Replay

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "recordings"
NAMES = ("bandit", "baseline-in-outage", "killed-fast", "promoted", "rolled-back-by-latency")


def recording(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((RECORDINGS / f"{name}.json.gz").read_bytes()))
    return found


def play(name: str) -> Replay:
    data = recording(name)
    case = Case(data["rollout_id"], Plan.from_json(data["plan"]), GatePolicy.from_json(data["policy"]))
    replay = Replay()
    between = [RecordedDecision(**one) for one in data["decisions"]]
    for row in (RecordedRow.from_json(one) for one in data["rows"]):
        while between and between[0].after <= row.index:
            replay = replay.after_decision(case, between.pop(0))
        replay = replay.after(case, row)
    for made in between:
        replay = replay.after_decision(case, made)
    last = float(data["rows"][-1]["situation"]["now"])
    return replay.ended(gates_state=data["gates_state"], verdicts=data["verdicts"], at=last)


@pytest.mark.parametrize("name", NAMES)
def test_recording_of_an_earlier_version__replayed__comes_out_as_it_was(name: str) -> None:
    replay = play(name)
    assert replay.outcome in ("identical", "equal"), (replay.first, replay.first_other)
    assert replay.rows == len(recording(name)["rows"]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_policy_of_an_earlier_version__read_and_written__has_the_same_bytes(name: str) -> None:
    body = recording(name)["policy"]
    assert GatePolicy.from_json(body).to_json() == body
