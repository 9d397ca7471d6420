"""What ran otherwise than it was asked for proves nothing good, and may be found bad all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.verdict import Verdict
from rollouts.domain.record.intervals import Interval
from tests.rollouts.domain.gates.helpers import (
    ERRORS,
    LATENCY,
    QUALITY,
    THUMBS,
    arm,
    counted,
    feed,
    interval,
    policy,
)

GOOD = counted(200)
LIKED = arm(200, answers=200, ratings=100)
CEILING = {**ERRORS, "mode": "tolerant", "ratio": 0, "delta": 0.05}


def start(*gates: dict[str, Any]) -> GatesState:
    return GatesState.initial(policy(*gates, fast_kill={"enabled": False}))


def fed(state: GatesState, times: int, altered: dict[str, Any], **what: Any) -> GatesState:
    for _ in range(times):
        state = state.update(replace(interval(state.last_index + 1, **what), **altered))
    return state


def proofs(state: GatesState) -> list[tuple[float, float]]:
    return [(track.failing.log_e, track.passing.log_e) for track in state.tested]


@pytest.mark.parametrize("who", ["candidate", "baseline"])
def test_altered__gates_that_would_pass__have_no_evidence_for_it_and_say_why(who: str) -> None:
    perfect = [(0.5, 1.0)] * 5
    state = fed(
        start(ERRORS, LATENCY, QUALITY), 40, {"altered": (who,)}, baseline=GOOD, candidate=GOOD, pairs=perfect
    )
    assert [passing for _, passing in proofs(state)] == [0.0, 0.0, 0.0]
    verdicts = state.assess().verdicts
    assert all(one.verdict is not Verdict.PASS for one in verdicts)
    assert all(f"What ran of the {who} was not what was asked for." in one.sentence for one in verdicts)
    assert not state.assess().all_required_pass


def test_altered__as_before_and_after__passes_on_what_was_asked_for_alone() -> None:
    usual: dict[str, Any] = {"baseline": GOOD, "candidate": GOOD}
    before = feed(start(ERRORS), 5, **usual)
    during = fed(before, 50, {"altered": ("candidate",)}, **usual)
    assert during.tested[0].passing.log_e == before.tested[0].passing.log_e
    assert feed(during, 20, **usual).assess().all_required_pass


@pytest.mark.parametrize("who", ["candidate", "baseline"])
def test_altered__candidate_that_fails__is_found_as_fast(who: str) -> None:
    bad: dict[str, Any] = {"baseline": GOOD, "candidate": counted(200, failed=30)}
    plain = feed(start(ERRORS), 10, **bad)
    state = fed(start(ERRORS), 10, {"altered": (who,)}, **bad)
    assert plain.assess().rollback
    assert state.assess().rollback


def test_altered__probes_that_get_worse__are_found() -> None:
    state = fed(
        start(QUALITY), 40, {"altered": ("candidate",)}, baseline=GOOD, candidate=GOOD, pairs=[(1, 0)] * 5
    )
    assert state.assess().rollback


def test_altered__shown_change_of_scores__is_bounded_from_the_bad_side_only() -> None:
    state = fed(
        start(QUALITY), 40, {"altered": ("candidate",)}, baseline=GOOD, candidate=GOOD, pairs=[(0, 1)] * 5
    )
    assert state.tested[0].bounds.interval(0.05)[0] is None


def test_altered__baseline_beside_an_absolute_limit__changes_nothing() -> None:
    usual: dict[str, Any] = {"baseline": GOOD, "candidate": GOOD}
    state = fed(start(CEILING), 10, {"altered": ("baseline",)}, **usual)
    assert proofs(state) == proofs(feed(start(CEILING), 10, **usual))


def test_altered__baseline__does_not_teach_what_its_usual_rate_is() -> None:
    worse = counted(200, failed=60)
    state = fed(start(ERRORS), 10, {"altered": ("baseline",)}, baseline=worse, candidate=GOOD)
    process, new = state.tested[0].failing, start(ERRORS).tested[0].failing
    assert process.to_json()["baseline_events"] == new.to_json()["baseline_events"]


def test_altered__ratings__count_by_when_the_answers_were_given() -> None:
    rated: dict[str, Any] = {"baseline": LIKED, "candidate": LIKED}
    late = fed(start(THUMBS), 20, {"altered": ("candidate",)}, **rated)
    early = fed(start(THUMBS), 20, {"altered_answers": ("candidate",)}, **rated)
    assert late.tested[0].passing.log_e > 0
    assert early.tested[0].passing.log_e == 0


def test_interval__altered__is_written_only_where_something_was() -> None:
    plain = interval(3, baseline=GOOD)
    assert not {"altered", "altered_answers"} & set(plain.to_json())
    marked = replace(plain, altered=("baseline",), altered_answers=("candidate",))
    read = Interval.from_json(marked.to_json())
    assert (read.altered, read.altered_answers) == (("baseline",), ("candidate",))
