"""Feedback: attributed to who answered, once, and only what the router confirms counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.access.actors import HEADGATE
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound
from rollouts.adapters.routers.memory import MemoryResponse
from rollouts.domain.lifecycle.plan import canary
from rollouts.models import Evidence, Feedback, FeedbackState
from rollouts.services.commands.feedback import count_ratings, ratings_between, record_feedback
from tests.rollouts.memory_world import ERRORS, THUMBS, MemoryWorld

SLOW_PLAN = canary((50,), hold_seconds=60, min_requests=10)  # long enough for ratings to come

pytestmark = pytest.mark.django_db


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS, THUMBS)).serve()


@pytest.fixture
def moving(w: MemoryWorld) -> MemoryWorld:
    w.start(2, plan=SLOW_PLAN)
    w.run_to("progressing")
    return w


def counted(w: MemoryWorld, *, since: datetime) -> dict[str, tuple[int, int]]:
    """Variant -> (ratings, thumbs down) of what was answered since then."""
    found = ratings_between(endpoint_ids=(w.endpoint_id,), start=since, end=w.now)
    return count_ratings(found[w.endpoint_id], start=since, end=w.now)


def rate(w: MemoryWorld, response: MemoryResponse, *, up: bool = True, **changes: Any) -> Feedback:
    values = {
        "request_id": response.request_id,
        "variant": response.answered,
        "endpoint_name": "triage",
        **changes,
    }
    return record_feedback(actor=HEADGATE, up=up, now=w.now, **values)


def state_of(w: MemoryWorld, made: Feedback, *, ticks: int = 3) -> str:
    w.run_for(ticks)
    made.refresh_from_db()
    return made.state


def test_record__then_a_turn_of_the_loop__verified_with_who_was_assigned(w: MemoryWorld) -> None:
    made = rate(w, w.router.send("triage"))
    assert made.state == FeedbackState.PENDING
    assert state_of(w, made) == FeedbackState.VERIFIED
    assert made.assigned == w.variant(1).name
    assert made.answered_at is not None


def test_record__same_request_twice__conflict_and_one_row(w: MemoryWorld) -> None:
    response = w.router.send("triage")
    rate(w, response)
    with pytest.raises(Conflict, match="rated already"):
        rate(w, response, up=False)
    assert Feedback.objects.get().up


def test_verify__forced_variant__does_not_count(moving: MemoryWorld) -> None:
    w = moving
    made = rate(w, w.router.send("triage", forced=w.variant(2).name))
    assert state_of(w, made) == FeedbackState.FORCED


def test_verify__another_variant_answered__unverifiable(moving: MemoryWorld) -> None:
    w = moving
    response = w.router.send("triage", forced=w.variant(2).name)
    assert state_of(w, rate(w, response, variant=w.variant(1).name)) == FeedbackState.UNVERIFIABLE


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ({"refuse_rate": 1.0, "refuse_status": 400}, 400),
        ({"refuse_rate": 1.0}, 429),
        ({"error_rate": 1.0}, 500),
    ],
)
def test_verify__request_that_was_refused_or_failed__has_no_answer_to_rate(
    w: MemoryWorld, behaviour: dict[str, Any], status: int
) -> None:
    w.behave(1, **behaviour)
    response = w.router.send("triage")
    assert response.status == status
    made = rate(w, response, up=False)
    assert state_of(w, made) == FeedbackState.UNVERIFIABLE
    assert counted(w, since=made.received_at) == {}


def test_verify__unknown_request__waits_five_minutes_then_unverifiable(w: MemoryWorld) -> None:
    made = rate(w, w.router.send("triage"), request_id="00000000-never-seen")
    assert state_of(w, made) == FeedbackState.PENDING
    w.clock.advance(timedelta(minutes=5).total_seconds())
    assert state_of(w, made, ticks=1) == FeedbackState.UNVERIFIABLE


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"request_id": "short"}, "request_id"),
        ({"request_id": "x" * 81}, "request_id"),
        ({"variant": "triage-v9-000000"}, "variant"),
        ({"comment": "x" * 2001}, "comment"),
    ],
)
def test_record__bad_input__names_the_field(w: MemoryWorld, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rate(w, w.router.send("triage"), **changes)
    assert caught.value.field == field


def test_record__unknown_endpoint__not_found(w: MemoryWorld) -> None:
    with pytest.raises(NotFound):
        rate(w, w.router.send("triage"), endpoint_name="chat")


def test_ratings__of_an_answer_by_the_fallback__count_for_neither_arm(moving: MemoryWorld) -> None:
    w = moving
    w.engine(2).alive = False
    start = w.now
    responses = [w.router.send("triage") for _ in range(80)]
    for response in responses:
        rate(w, response, up=False)
    w.run_for(3)
    assert Feedback.objects.filter(state="verified").count() == 80
    own = sum(1 for r in responses if r.assigned == w.variant(1).name)
    counts = counted(w, since=start)
    assert own < 80
    assert counts == {w.variant(1).name: (own, own)}


def test_gate__thumbs_down_on_the_candidate__reach_it_once_their_time_is_over(moving: MemoryWorld) -> None:
    w = moving

    def users_rate(response: MemoryResponse) -> None:
        if response.request_id[0] in "0123":
            rate(w, response, up=response.answered == w.variant(1).name)

    w.on_answer = users_rate
    w.run_for(3)
    asked = {arm.name for arm in w.rollout.arms.all()}
    assert asked == {"baseline", "candidate"}
    rollout = w.run_to("rolled-back", "succeeded", limit=60)
    assert rollout.cause == "gate:thumbs"
    rows = [row.interval["arms"]["candidate"] for row in Evidence.objects.all() if row.interval["arms"]]
    fed = [row for row in rows if row["answers"]]
    assert fed
    assert all(row["thumbs_down"] == row["ratings"] <= row["answers"] for row in fed)
    # Every answer is fed once: what was fed is never more than what was answered.
    assert sum(row["answers"] for row in rows) <= sum(row["requests"] for row in rows)


def test_gate__rating_that_comes_late__is_kept_and_not_fed(moving: MemoryWorld) -> None:
    w = moving
    late = [w.router.send("triage") for _ in range(20)]
    w.run_for(10)
    before = sum(
        row.interval["arms"]["baseline"]["ratings"] for row in Evidence.objects.all() if row.interval["arms"]
    )
    for response in late:
        rate(w, response, up=False)
    w.run_for(8)
    rows = [row.interval["arms"] for row in Evidence.objects.all() if row.interval["arms"]]
    assert sum(arms["baseline"]["ratings"] + arms["candidate"]["ratings"] for arms in rows) == before == 0
    assert Feedback.objects.filter(state="verified").count() == 20
