"""A stored rollout as the pure decision sees it: plain values, in the order of the arms."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Arm, Rollout
from rollouts.services.loop.views import view_of, with_counts
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def rollout() -> Rollout:
    return factories.rollout_pending(now=NOW)


def rows_of(rollout: Rollout) -> list[Arm]:
    return list(Arm.objects.filter(rollout=rollout).select_related("variant__version").order_by("pk"))


def test_view__times__are_seconds_and_what_never_was_is_none(rollout: Rollout) -> None:
    rollout.step_since = NOW + timedelta(seconds=30)
    view = view_of(rollout)
    assert (view.phase, view.phase_since, view.created_at) == (
        Phase.PENDING, NOW.timestamp(), NOW.timestamp(),
    )  # fmt: skip
    assert (view.step_since, view.measured_at, view.unread_at) == (NOW.timestamp() + 30, None, None)


def test_view__arms__are_in_the_order_of_their_making_with_what_was_decided(rollout: Rollout) -> None:
    Arm.objects.filter(rollout=rollout, name="candidate").update(
        dropped_at=NOW, dropped_cause="person", desired_bp=7, observed_bp=9
    )
    baseline, candidate = view_of(rollout).arms
    assert (baseline.name, baseline.label, baseline.share_bp, baseline.dropped) == (
        "baseline", "v1", 10_000, False,
    )  # fmt: skip
    assert (candidate.name, candidate.share_bp, candidate.dropped, candidate.cause) == (
        "candidate", 7, True, "person",
    )  # fmt: skip


def test_view__with_the_rows_of_this_turn__asks_nothing_and_is_the_same(rollout: Rollout) -> None:
    rows = rows_of(rollout)
    with CaptureQueriesContext(connection) as asked:
        view = view_of(rollout, rows)
    assert len(asked) == 0
    assert view == view_of(rollout)


def test_view__candidate__is_the_arm_that_the_rollout_names(rollout: Rollout) -> None:
    second = factories.variant(rollout.endpoint, 3, now=NOW)
    Arm.objects.create(rollout=rollout, variant=second, name="candidate-2")
    assert view_of(rollout).candidate_arm == "candidate"
    rollout.candidate = second
    assert (view_of(rollout).candidate_arm, view_of(rollout).candidate) == ("candidate-2", second.name)


@pytest.mark.parametrize(("cause", "said"), [("", "It waits."), ("A gate failed.", "A gate failed.")])
def test_view__cause__is_what_is_kept_of_it_else_the_reason(rollout: Rollout, cause: str, said: str) -> None:
    rollout.reason, rollout.cause_sentence = "It waits.", cause
    assert view_of(rollout).cause_sentence == said


def test_with_counts__what_this_turn_counted__is_taken_over_and_nothing_else(rollout: Rollout) -> None:
    view = view_of(rollout)
    rollout.step_requests, rollout.measured_at, rollout.phase = 12, NOW, Phase.PAUSED.value
    rollout.unread_at, rollout.step_since = NOW, NOW
    with CaptureQueriesContext(connection) as asked:
        after = with_counts(view, rollout)
    assert len(asked) == 0
    at = NOW.timestamp()
    assert (after.step_requests, after.measured_at, after.unread_at, after.step_since) == (12, at, at, at)
    assert (after.phase, after.arms) == (view.phase, view.arms)
