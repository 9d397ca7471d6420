"""A baseline that is out of order proves nothing good, and the candidate may still be found bad meanwhile."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import as_written
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from tests.rollouts.domain.gates.helpers import (
    ABANDONED,
    ERRORS,
    LATENCY,
    QUALITY,
    REFUSED,
    counted,
    feed,
    policy,
)

DEAD = counted(100, fallback=90, failed=10, ready=0)
RULE = {"baseline_outage_share": 0.2}


def start(*gates: dict[str, Any], **other: Any) -> GatesState:
    return GatesState.initial(policy(*gates, **RULE, **other))


def passing(state: GatesState) -> list[float]:
    return [track.passing.log_e for track in state.tested]


def test_outage__dead_baseline__is_no_evidence_for_any_gate() -> None:
    state = feed(
        start(ERRORS, REFUSED, ABANDONED, LATENCY), 30, baseline=DEAD, candidate=counted(100, over=3)
    )
    assert max(passing(state)) <= 0
    assert all(verdict.verdict is not Verdict.PASS for verdict in state.assess().verdicts)


def test_outage__candidate_with_errors_beside_a_dead_baseline__has_not_passed_and_is_found_afterwards() -> (
    None
):
    bad = counted(100, failed=15)
    during = feed(start(ERRORS, fast_kill={"enabled": False}), 10, baseline=DEAD, candidate=bad)
    assert during.assess().verdicts[0].verdict is not Verdict.PASS
    after = feed(during, 9, baseline=counted(100, failed=1), candidate=bad)
    assert after.assess().rollback


def test_outage__absolute_limit_broken_meanwhile__fails_all_the_same() -> None:
    ceiling = {**ERRORS, "mode": "tolerant", "ratio": 0, "delta": 0.05}
    state = feed(
        start(ceiling, fast_kill={"enabled": False}), 10, baseline=DEAD, candidate=counted(100, failed=30)
    )
    assert state.assess().rollback


@pytest.mark.parametrize("ended", ["failed", "fallback"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_outage__requests_that_clients_spoil_themselves__do_not_blame_the_candidate(
    ended: str, share: float
) -> None:
    """Five of a hundred are refused by either engine, and five give up; a baseline that fails does neither."""
    usual = counted(100, refused=5, abandoned=5)
    well = feed(start(ERRORS, REFUSED, ABANDONED), 6, baseline=usual, candidate=usual)
    left = round(5 * (1 - share))
    failing: dict[str, Any] = {ended: round(100 * share)}
    broken = counted(100, refused=left, abandoned=left, **failing)
    for seconds in (2.0, 10.0):
        during = feed(well, 60, baseline=broken, candidate=usual, seconds=seconds)
        assert not during.assess().rollback


def test_outage__candidate_that_refuses_more_than_what_is_left_of_the_baseline__is_found() -> None:
    half = counted(100, refused=2, failed=50)
    state = feed(start(REFUSED), 20, baseline=half, candidate=counted(100, refused=30))
    assert state.assess().rollback


def test_outage__pairs_of_probes__count_as_always() -> None:
    state = feed(start(QUALITY), 40, baseline=DEAD, candidate=counted(100), pairs=[(1.0, 1.0)] * 10)
    assert state.assess().verdicts[0].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("baseline", "is_outage"),
    [
        (counted(100, failed=19), False),
        (counted(100, failed=20), True),
        (counted(4, failed=2), False),
        (counted(4, failed=3), True),
        (counted(100, ready=0), False),
        (counted(100, failed=1, ready=0), True),
    ],
    ids=["below", "at the limit", "too few to say", "three of four", "cluster not read", "not ready"],
)
def test_outage__what_the_baseline_did__begins_one_or_not(baseline: Any, *, is_outage: bool) -> None:
    state = feed(start(ERRORS), 1, baseline=baseline, candidate=counted(100))
    assert (state.outage is not None) is is_outage


def test_outage__no_replica_of_either_was_seen_ready__is_a_cluster_that_could_not_be_read() -> None:
    blind = {"baseline": counted(100, failed=1, ready=0), "candidate": counted(100, failed=1, ready=0)}
    assert feed(start(ERRORS), 3, **blind).outage is None
    dead = counted(100, failed=100, ready=0)
    assert feed(start(ERRORS), 1, baseline=dead, candidate=dead).outage is not None


def test_outage__little_traffic__shows_within_the_window() -> None:
    state = feed(start(ERRORS), 1, baseline=counted(2, failed=2), candidate=counted(2))
    assert state.outage is None
    assert feed(state, 1, baseline=counted(2, failed=2), candidate=counted(2)).outage is not None


def test_outage__told_with_since_when_and_how_many() -> None:
    healthy = feed(start(ERRORS), 2, baseline=counted(100), candidate=counted(100))
    out = feed(healthy, 3, baseline=DEAD, candidate=counted(100)).assess().outage
    assert out is not None
    assert (out.since, out.seconds, out.requests, out.failed, out.rescued) == (20.0, 30.0, 300, 300, 270)
    assert out.sentence == (
        "The baseline has been out of order for 30 s (none of its replicas is ready): 300 of its 300 requests failed "
        "and 270 of those were answered by another variant. Nothing that is measured meanwhile counts in favour of the "
        "candidate."
    )


def test_outage__over__is_told_once_more_and_then_forgotten() -> None:
    out = feed(start(ERRORS), 3, baseline=DEAD, candidate=counted(100))
    quick = {"baseline": counted(1000), "candidate": counted(1000)}
    over = feed(out, 1, **quick).outage
    while over is not None and not over.over:  # the window remembers for a while
        out = feed(out, 1, **quick)
        over = out.outage
    assert over is not None
    assert over.sentence.startswith("The baseline works again. It was out of order for ")
    assert feed(out, 2, **quick).outage is None


def test_outage__interval_that_nobody_could_read__does_not_end_it() -> None:
    state = feed(start(ERRORS), 30, baseline=counted(100), candidate=counted(100))
    out = feed(state, 3, baseline=DEAD, candidate=counted(100))
    unread = feed(out, 1, missing={"router": "the router restarted: its counters began again"}).assess()
    assert unread.all_required_pass  # so it would be promoted, were it not held
    assert unread.outage is not None
    assert not unread.outage.over
    assert (unread.outage.since, unread.outage.seconds, unread.outage.requests) == (300.0, 40.0, 300)


def test_outage__after_it__a_new_search_starts_with_the_next_interval() -> None:
    state = feed(start(ERRORS, restart_every_seconds=10_000), 3, baseline=DEAD, candidate=counted(1000))
    starts = [track.failing.evidence.starts for track in state.tested]
    healthy = feed(state, 6, baseline=counted(1000), candidate=counted(1000))
    assert [track.failing.evidence.starts for track in healthy.tested] == [count + 1 for count in starts]


def test_outage__old_policy__has_no_such_rule() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 30, baseline=DEAD, candidate=counted(100))
    assert state.outage is None
    assert state.assess().to_json().get("outage") is None


def test_outage__state_and_verdict__survive_json() -> None:
    state = feed(start(ERRORS), 3, baseline=DEAD, candidate=counted(100))
    assert GatesState.from_json(json.loads(json.dumps(state.to_json()))) == state
    verdict = state.assess()
    assert FamilyVerdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_as_written__a_new_policy__never_goes_without_the_rule() -> None:
    assert as_written({})["baseline_outage_share"] == 0.2
    assert as_written({"baseline_outage_share": None})["baseline_outage_share"] == 0.2
    assert as_written({"baseline_outage_share": 0.5})["baseline_outage_share"] == 0.5


@pytest.mark.parametrize("share", [0, -0.1, 1.1, "much", float("nan")])
def test_policy__outage_share_that_cannot_be__is_refused_by_name(share: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        policy(ERRORS, baseline_outage_share=share)
    assert refused.value.field == "baseline_outage_share"


@given(
    n_b=st.integers(3, 12),
    n_c=st.integers(1, 8),
    rate=st.floats(0.01, 0.6),
    bound=st.floats(0.05, 0.9),
    seen=st.integers(0, 40),
)
def test_passing__intervals_left_out_by_the_baselines_failures__keep_the_expectation_at_most_one(
    n_b: int, n_c: int, rate: float, bound: float, seen: int
) -> None:
    """The argument of `outage`, enumerated: every count of both arms, at the null's own boundary."""
    from scipy.stats import binom

    from rollouts.domain.gates.proportion import ProportionProcess

    ratio, delta = 1.0, 0.05
    before = ProportionProcess(
        ratio=ratio, delta=delta, decision="pass", prior_events=0.5 + seen, prior_trials=50.0
    )
    candidate_rate = min(rate * ratio + delta, 1.0)
    expected = 0.0
    for e_b in range(n_b + 1):
        for e_c in range(n_c + 1):
            chance = binom.pmf(e_b, n_b, rate) * binom.pmf(e_c, n_c, candidate_rate)
            factor = 1.0
            if not (e_b >= 3 and e_b >= bound * n_b):
                factor = float(np.exp(before.update(n_c, e_c, n_b, e_b).log_e - before.log_e))
            expected += chance * factor
    assert expected <= 1 + 1e-9
    assert not math.isnan(expected)
