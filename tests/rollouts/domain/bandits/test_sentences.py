"""What a release manager reads."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.kernel.words import odds, percent_of_share
from rollouts.domain.bandits import BanditVerdict, TopTwoThompson
from rollouts.domain.bandits.forecast import answers_until_one_is_left
from tests.rollouts.domain.bandits.helpers import THREE, bandit, counts, feed, row, simulate

LABELS = {"baseline": "v1", "candidate": "v2", "candidate-2": "v3"}


def assessed(times: int, down: tuple[int, int, int]) -> BanditVerdict:
    arms = {name: counts(40, bad) for name, bad in zip(THREE, down, strict=True)}
    return feed(bandit(burn_in=80), times, arms).assess(labels=LABELS)


def test_sentence__nothing_counted__says_the_burn_in() -> None:
    verdict = bandit().assess(labels=LABELS)
    assert verdict.sentence == (
        "All three arms remain, with equal shares until each has 200 scored answers; v1 has the fewest, 0."
    )
    assert verdict.arm("candidate").sentence == (
        "In the race: 0 of its answers are scored; the shares stay equal until every arm has 200."
    )
    assert (verdict.arm("candidate").mean, verdict.arm("candidate").ipw) == (None, None)
    assert verdict.arm("candidate").expected_loss is None


def test_sentence__racing__names_the_strongest_evidence_and_the_rule() -> None:
    verdict = assessed(3, (12, 10, 8))
    assert verdict.sentence.startswith(
        "All three arms remain, no winner yet. The strongest evidence is against v"
    )
    assert (
        "at 20 to 1 it leaves. The bandit stops when one arm is left and all its required gates pass."
        in verdict.sentence
    )


def test_sentence__one_left_the_race__counts_the_rest() -> None:
    assert assessed(10, (20, 8, 7)).sentence.startswith("Two of three arms remain, no winner yet. ")


def test_detail__racing__pace_forecast_tie_and_what_p_best_is_for() -> None:
    detail = assessed(3, (12, 10, 8)).detail
    assert detail.startswith(
        "With 720 scored answers a minute and the difference seen so far, one arm is left after about "
    )
    assert "If several are left at the deadline, the result is “v1, v2 or v3” and a person chooses." in detail
    assert "Of arms that are equal one is named the winner in at most 10 of 100 rollouts." in detail
    assert "which only steers the shares. Do not promote on this number" in detail


def test_detail__no_difference_seen__no_forecast() -> None:
    assert "is left after" not in assessed(8, (10, 10, 10)).detail


def test_tie_sentence__two_left__names_both_and_no_winner() -> None:
    verdict = assessed(10, (20, 8, 8))
    assert verdict.tied == ("candidate", "candidate-2")
    assert verdict.tie_sentence == "v2 or v3: neither is proven better than the other; the choice is yours."
    assert verdict.winner == ""


def test_arm_sentence__eliminated__says_by_whom_and_how_strongly() -> None:
    arm = assessed(10, (8, 20, 8)).arm("candidate")
    assert arm.sentence.startswith("Eliminated: the evidence that another arm is better was ")
    assert " to 1, mostly because of v" in arm.sentence


def test_arm_sentence__racing__evidence_decides_and_the_probability_only_steers() -> None:
    arm = assessed(3, (12, 10, 8)).arm("candidate")
    assert arm.mean is not None
    assert f"so by estimate {percent_of_share(arm.mean)} of its answers are not rated down." in arm.sentence
    assert (
        f"The evidence that another arm is better is {odds(arm.evidence)} to 1; at 20 to 1 it leaves."
        in arm.sentence
    )
    steers = (
        f"the best has a probability of {percent_of_share(arm.p_best)}, which only steers its share of "
        "the traffic."
    )
    assert arm.sentence.endswith(steers)


def test_sentence__no_evidence_against_any__says_so() -> None:
    sentence = assessed(8, (10, 10, 10)).sentence
    assert "Nothing speaks against any of them yet" in sentence
    assert "and an arm leaves at 20 to 1." in sentence


def test_reweight_sentence__moved__says_from_what_to_what() -> None:
    arms = {name: counts(40, bad) for name, bad in zip(THREE, (10, 8, 12), strict=True)}
    state = feed(bandit(burn_in=40), 1, arms)
    sentence = state.assess(labels=LABELS).reweight.sentence
    assert sentence.startswith("Weights recalculated: v1 33.34% → ")
    assert "v2 33.33% → " in sentence


def test_expected_loss__of_the_best__is_the_smallest() -> None:
    verdict = assessed(3, (12, 10, 8))
    losses = [arm.expected_loss for arm in verdict.arms]
    assert losses == sorted((loss for loss in losses if loss is not None), reverse=True)


def test_arm_verdict__numbers__hold_together() -> None:
    state = simulate(bandit(burn_in=100), 40, {"baseline": 0.70, "candidate": 0.72, "candidate-2": 0.75})
    for arm in state.assess().arms:
        assert arm.mean is not None
        assert arm.low is not None
        assert arm.high is not None
        assert arm.low < arm.mean < arm.high
        assert arm.ipw is not None
        assert arm.ipw.low < arm.ipw.mean < arm.ipw.high
        assert arm.ipw.mean == pytest.approx(arm.mean, abs=0.05)


def test_forecast__answers_as_expected__close_to_when_it_happens() -> None:
    learner = TopTwoThompson.initial(("baseline", "candidate"))
    row_of = {"baseline": (50, 35.0), "candidate": (50, 40.0)}
    learner = learner.update(row_of).update(row_of)
    forecast = answers_until_one_is_left(learner, (5000, 5000))
    assert forecast is not None
    answers = 0
    while len(learner.survivors) > 1:
        learner, answers = learner.update(row_of), answers + 100
    assert forecast == pytest.approx(answers, rel=0.3)


def test_forecast__one_arm_without_answers__unknown() -> None:
    learner = TopTwoThompson.initial(("baseline", "candidate")).update({"baseline": (50, 20)})
    assert answers_until_one_is_left(learner, (5000, 5000)) is None


def test_labels__missing__arms_written_by_name() -> None:
    state = bandit().update(row(0, {name: counts(10) for name in THREE}), np.random.default_rng(1))
    assert "baseline has the fewest, 10" in state.assess().sentence


def test_gate_forecast__several_arms__reckons_with_the_baselines_own_share() -> None:
    """The baseline of a bandit gets a small share of what is not the candidate's, so a PASS takes longer."""
    state = simulate(bandit(burn_in=60), 8, {"baseline": 0.6, "candidate": 0.7, "candidate-2": 0.7})
    gates = state.gates["candidate"]
    alone, among = gates.assess(), gates.assess(baseline_bp=1000)
    needed = [family.verdicts[0].forecast_requests for family in (alone, among)]
    assert needed[0] is not None
    assert needed[1] is not None
    assert needed[1] > needed[0]
    assert state.assess().gates["candidate"] == gates.assess(baseline_bp=state.wanted[0])
