"""An outage of the variant that serves, through the loop: with a rollout, with a paused one, and without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollouts.domain.engines import FailureReason
from rollouts.domain.gates.outage import Outage
from rollouts.models import HistoryEvent
from tests.rollouts.memory_world import ERRORS, LONG_PLAN, MemoryWorld

pytestmark = pytest.mark.django_db


@pytest.fixture
def serving(tmp_path: Path) -> MemoryWorld:
    """Version 1 serves without a rollout."""
    return MemoryWorld(tmp_path, gates=(ERRORS,)).serve()


def lasting(w: MemoryWorld) -> Outage | None:
    return w.endpoint.serving.lasting


def told(w: MemoryWorld) -> list[tuple[str, str]]:
    rows = HistoryEvent.objects.filter(title__regex="out of order|works again").order_by("pk")
    return [(row.kind, row.title.partition(" UTC")[0]) for row in rows]


def test_no_rollout__engine_dies__is_told_within_an_interval_and_when_it_is_over(
    serving: MemoryWorld,
) -> None:
    w = serving
    w.run_for(4)
    w.cluster.kill(w.variant(1).name, down_seconds=6.0)
    w.run_for(3)
    outage = lasting(w)
    assert outage is not None
    assert outage.requests > outage.failed > 0  # the interval in which it died had answers, too
    assert outage.rescued == 0
    assert w.now.timestamp() - outage.since <= 5
    [(kind, title)] = told(w)
    assert kind == "outage"
    assert title.startswith("v1 has been out of order since ")
    w.run_for(40)
    assert lasting(w) is None
    assert [kind for kind, _ in told(w)] == ["outage", "outage-over"]


def test_no_rollout__engine_answers_with_errors__is_out_of_order_though_it_is_ready(
    serving: MemoryWorld,
) -> None:
    w = serving
    w.behave(1, error_rate=0.6)
    w.run_for(4)
    outage = lasting(w)
    assert outage is not None
    assert "of its requests failed" in outage.why


def test_no_rollout__counters_cannot_be_read__ends_no_outage(serving: MemoryWorld) -> None:
    w = serving
    w.behave(1, error_rate=0.6)
    w.run_for(4)
    w.router.down = True
    w.run_for(4)
    assert lasting(w) is not None


def test_no_rollout__cluster_does_not_answer__begins_no_outage(serving: MemoryWorld) -> None:
    w = serving
    w.cluster.outage = "it does not answer"
    w.run_for(6)
    assert lasting(w) is None
    assert told(w) == []


def test_no_rollout__cluster_does_not_answer_and_a_request_fails__begins_no_outage(
    serving: MemoryWorld,
) -> None:
    w = serving
    w.behave(1, error_rate=0.02)
    w.cluster.outage = "it does not answer"
    w.run_for(10)
    assert w.lost > 0
    assert lasting(w) is None
    assert told(w) == []


def test_rollout__cluster_does_not_answer_and_a_request_fails__is_not_held_for_it(
    serving: MemoryWorld,
) -> None:
    w = serving
    w.start(2, plan=LONG_PLAN)
    w.run_to("progressing")
    w.behave(1, error_rate=0.02)
    w.cluster.outage = "it does not answer"
    w.run_for(10)
    assert "out of order" not in w.rollout.reason
    assert told(w) == []


def test_starting__before_it_ever_served__is_no_outage(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), ready_after=8.0)
    w.run_for(6)
    assert w.endpoint.outage == {}


def test_rollout__baseline_dies__is_told_once_and_its_page_holds(serving: MemoryWorld) -> None:
    w = serving
    w.start(2, plan=LONG_PLAN)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.step_since is not None)
    w.cluster.kill(w.variant(1).name, down_seconds=8.0)
    w.run_for(5)
    assert lasting(w) is not None
    assert len(told(w)) == 1
    assert "Held at 5%" in w.rollout.reason
    w.run_for(40)
    assert lasting(w) is None
    assert len(told(w)) == 2


def test_paused_rollout__baseline_dies__is_in_the_history_of_the_rollout(serving: MemoryWorld) -> None:
    w = serving
    w.start(2, plan=LONG_PLAN)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.step_since is not None)
    w.pause()
    w.cluster.fail(w.variant(1).name, FailureReason.CRASH_LOOP, "it ended three times")
    w.run_for(4)
    event = HistoryEvent.objects.get(kind="outage")
    assert event.rollout == w.rollout
    assert "it ended three times" in event.detail


def test_promoted__new_stable_variant__does_not_inherit_the_outage(serving: MemoryWorld) -> None:
    w = serving
    w.behave(1, error_rate=0.6)
    w.run_for(4)
    endpoint = w.endpoint
    endpoint.stable = w.variant(1)
    w.start(2)
    w.run(lambda: w.rollout.phase == "progressing")
    w.promote()
    w.run(lambda: w.endpoint.stable == w.variant(2))
    w.run_for(4)
    assert w.endpoint.serving.outage is None
