"""What a replay found, in data and in one sentence that says which promise was checked and whether it was kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rollouts.domain.record.comparing import ValueDifference
from rollouts.domain.record.replay import Replay, RowDifference
from rollouts.domain.record.whatif import LIMIT, Course, Moment, OtherDecision, WhatIf
from rollouts.models import Endpoint, GatePolicyVersion, Rollout
from rollouts.services.evidence.report import (
    CHECKED,
    ReplayReport,
    lines_of,
    replay_report,
    what_if_report,
)

NOW_WITH, EARLIER = "domain 2, Python 3.12", "domain 1, Python 3.11"
BYTES = RowDifference("interval 17", 99.0, ValueDifference("verdicts[0].log_e", 1.0, 1.0000001))
OTHER = RowDifference("decision 2", 120.0, ValueDifference("decision.event", "advance", "pause"))
WORDS = RowDifference("interval 3", 20.0, ValueDifference("verdicts[0].sentence", "so far", "until now"))


@pytest.fixture
def rollout() -> Rollout:
    policy = GatePolicyVersion(name="triage-default", version=2)
    return Rollout(pk=7, endpoint=Endpoint(name="triage"), gate_policy=policy)


def report(rollout: Rollout, **found: Any) -> ReplayReport:
    played = Replay(
        **{"rows": 1, "decisions": 2_314, "row_digest": "sha256:ab", "software": (NOW_WITH,), **found}
    )
    return replay_report(rollout=rollout, played=played, now_with=NOW_WITH, seconds=1.23456, tolerance=1e-9)


@pytest.mark.parametrize(
    ("found", "outcome", "promise", "kept"),
    [
        ({}, "identical", "identical", True),
        ({"reworded": 1, "first_reworded": WORDS}, "identical", "identical", False),
        ({"first": BYTES}, "equal", "identical", False),
        ({"first": BYTES, "first_other": OTHER}, "differs", "identical", False),
        ({"software": (EARLIER,)}, "identical", "equal", True),
        ({"software": (NOW_WITH, EARLIER), "first": BYTES}, "equal", "equal", True),
        ({"software": (EARLIER,), "reworded": 3, "first_reworded": WORDS}, "identical", "equal", True),
        ({"software": (EARLIER,), "first": BYTES, "first_other": OTHER}, "differs", "equal", False),
    ],
)
def test_replay__with_this_software_or_another__says_which_promise_it_was_and_whether_it_was_kept(
    rollout: Rollout, found: dict[str, Any], outcome: str, promise: str, kept: bool
) -> None:
    made = report(rollout, **found)
    assert (made.outcome, made.promise, made.kept) == (outcome, promise, kept)
    assert made.checked == (CHECKED if outcome == "identical" else CHECKED[:1])


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({}, "identical, every byte of every verdict and decision."),
        ({"first": BYTES, "first_other": OTHER}, "decision 2 comes out differently, in decision.event."),
        ({"first": BYTES}, "the bytes differ, although the software is the same."),
        ({"first": BYTES, "software": (EARLIER,)}, "the bytes differ, recorded with other software."),
        (
            {"reworded": 1, "first_reworded": WORDS},
            "decision, although the software is the same. 1 sentence is worded differently today.",
        ),
        (
            {"reworded": 2, "first_reworded": WORDS, "software": (EARLIER,)},
            "every verdict, number and decision. 2 sentences are worded differently today.",
        ),
    ],
)
def test_replay__sentence__begins_with_how_much_was_done_again(
    rollout: Rollout, found: dict[str, Any], sentence: str
) -> None:
    made = report(rollout, **found)
    assert made.sentence.startswith("1 interval and 2,314 decisions between them replayed: ")
    assert made.sentence.endswith(sentence)


def test_replay__infinite_difference__is_data_that_json_holds(rollout: Rollout) -> None:
    made = report(rollout, log_e=float("inf"), first=BYTES)
    assert made.log_e is None
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["first"]["path"] == "verdicts[0].log_e"


def test_lines__of_a_replay_that_differs__name_value_and_digest(rollout: Rollout) -> None:
    lines = lines_of(report(rollout, first=OTHER, first_other=OTHER, reworded=1, first_reworded=WORDS))
    assert lines[0] == "Rollout #7 of triage, triage-default@2."
    assert "  decision 2, decision.event: recorded 'advance', replayed 'pause'" in lines
    assert "    then: so far" in lines
    assert lines[-1] == "Digest of the last interval: sha256:ab. Replayed in 1.235 s."


def test_lines__of_a_rollout_without_intervals__say_that_there_is_no_digest(rollout: Rollout) -> None:
    assert lines_of(report(rollout, row_digest=None))[-1].startswith("Digest of the last interval: none.")


# --- under another policy ---------------------------------------------------------------------------------------------

LATER = Moment("interval 12", 100.0, 65.0, cause="gate:errors")


def other(first: OtherDecision | None = None, **course: Any) -> WhatIf:
    recorded = Course("triage-default@2", passed=Moment("interval 40", 300.0, 200.0))
    return WhatIf(recorded, Course("triage-strict@1", **course), 35.0, rows=40, first=first)


def test_what_if__no_other_decision__is_the_same(rollout: Rollout) -> None:
    made = what_if_report(rollout=rollout, played=other())
    assert (made.kind, made.outcome, made.limit) == ("what-if", "same", LIMIT)
    assert made.sentence == (
        "Every decision would have been the same. triage-strict@1 neither rolls back nor passes on this evidence, "
        "triage-default@2 has every required gate passed 3 min 20 s after the first traffic (interval 40)."
    )


def test_what_if__another_decision__says_when_the_first_came_and_what_it_was(rollout: Rollout) -> None:
    first = OtherDecision(LATER, {"reason": "Holding 5%."}, {"reason": "Too many errors."})
    made = what_if_report(rollout=rollout, played=other(first, rollback=LATER))
    assert made.outcome == "differs"
    assert made.sentence.startswith(
        "The first other decision would have come 1 min 5 s after the first traffic (interval 12). "
        "triage-strict@1 would roll back 1 min 5 s after the first traffic (interval 12) (gate:errors)"
    )
    lines = lines_of(made)
    assert {"  recorded: Holding 5%.", "  replayed: Too many errors.", LIMIT} <= set(lines)
    assert not any(line.startswith("Digest") for line in lines)


def test_what_if__before_there_was_traffic__says_so(rollout: Rollout) -> None:
    early = Moment("decision 0", 10.0, -25.0)
    made = what_if_report(rollout=rollout, played=other(rollback=early))
    assert "would roll back before there was traffic" in made.sentence
