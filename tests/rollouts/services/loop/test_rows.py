"""What the database says of a batch of endpoints: in order, at the cost of one, each with its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, SetTraffic, WriteBack
from rollouts.models import Arm, Effect, EffectState, Endpoint, Evidence, Feedback, Rollout
from rollouts.services.loop.rows import REFUSED, Rows, read_rows
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def effect(endpoint: Endpoint, kind: str, **changes: Any) -> Effect:
    return Effect.objects.create(
        **{"endpoint": endpoint, "kind": kind, "payload": {}, "created_at": NOW, **changes}
    )


def read(*endpoints: Endpoint) -> list[Rows]:
    return read_rows([endpoint.pk for endpoint in endpoints], now=NOW)


def test_read__several__are_in_the_order_of_their_numbers_and_each_has_its_own() -> None:
    first, last = factories.endpoint(now=NOW), factories.endpoint("another", now=NOW)
    factories.rollout_pending(of=last, now=NOW)
    effect(first, EnsureWorkload.kind)
    one, two = read(last, first)
    assert (one.endpoint, two.endpoint) == (first, last)
    assert (one.rollout, [row.kind for row in one.waiting]) == (None, [EnsureWorkload.kind])
    assert two.rollout is not None
    assert [arm.name for arm in two.arms] == ["baseline", "candidate"]
    assert [row.variant.version.number for row in two.workloads] == [1, 2]
    assert two.waiting == ()


def test_read__more_endpoints__cost_no_more_queries() -> None:
    made = [factories.endpoint(f"endpoint-{number}", now=NOW) for number in range(4)]
    for endpoint in made:
        factories.rollout_pending(of=endpoint, now=NOW)
    costs = []
    for some in (made[:1], made):
        with CaptureQueriesContext(connection) as asked:
            rows = read(*some)
            for one in rows:
                assert one.rollout is not None
                assert one.rollout.candidate.version.number == 2
                assert one.rollout.gate_policy == one.rollout.endpoint.gate_policy
                assert {arm.variant.version.number for arm in one.arms} == {1, 2}
        costs.append(len(asked))
    assert costs == [6, 6]


def test_read__one_that_is_gone__is_left_out() -> None:
    endpoint = factories.endpoint(now=NOW)
    assert [one.endpoint.pk for one in read_rows([endpoint.pk, 77], now=NOW)] == [endpoint.pk]


def test_rollout__active_and_another_watched__is_the_active_one() -> None:
    watched = factories.rollout_promoted(now=NOW)
    active = factories.rollout_pending(of=watched.endpoint, number=3, now=NOW)
    assert read(watched.endpoint)[0].rollout == active
    Rollout.objects.filter(pk=active.pk).update(phase="cancelled")
    assert read(watched.endpoint)[0].rollout == watched


def test_rollout__over_and_watched_no_more__is_none() -> None:
    over = factories.rollout_promoted(watching=False, now=NOW)
    assert read(over.endpoint)[0].rollout is None


def test_newest_digest__of_the_rollouts_rows__is_the_last_ones() -> None:
    rollout = factories.rollout_progressing(now=NOW)
    last = Evidence.objects.filter(rollout=rollout).order_by("-index")[0]
    assert read(rollout.endpoint)[0].newest_digest == last.digest
    Evidence.objects.all().delete()
    assert read(rollout.endpoint)[0].newest_digest is None


def test_waiting__only_what_the_loop_carries_out__in_its_order() -> None:
    endpoint = factories.endpoint(now=NOW)
    kept = [effect(endpoint, kind) for kind in (DrainWorkload.kind, SetTraffic.kind, EnsureWorkload.kind)]
    effect(endpoint, WriteBack.kind)
    effect(endpoint, DrainWorkload.kind, state=EffectState.DONE)
    assert list(read(endpoint)[0].waiting) == kept


@pytest.mark.parametrize(
    ("state", "not_before", "rated"),
    [("pending", None, True), ("pending", 60, False), ("verified", None, False)],
)
def test_rated__a_rating_that_may_be_looked_for__waits(
    state: str, not_before: int | None, rated: bool
) -> None:
    endpoint = factories.endpoint(now=NOW)
    Feedback.objects.create(
        request_id="r-1", endpoint=endpoint, variant="v", up=True, received_at=NOW, state=state,
        not_before=None if not_before is None else NOW + timedelta(seconds=not_before),
    )  # fmt: skip
    assert read(endpoint)[0].rated is rated


def rows(*waiting: Effect) -> Rows:
    return Rows(Endpoint(), None, tuple[Arm, ...](), None, (), waiting, rated=False)


def test_refusal__of_a_split_that_the_router_refused__is_its_words() -> None:
    other = Effect(kind=EnsureWorkload.kind, payload={REFUSED: True}, problem="no room")
    waits = Effect(kind=SetTraffic.kind, payload={}, problem="v2 has no address yet")
    refused = Effect(kind=SetTraffic.kind, payload={REFUSED: True}, problem="no such cluster")
    assert (rows(other).traffic_waits, rows(other).refusal) == (False, "")
    assert (rows(other, waits).traffic_waits, rows(waits).refusal) == (True, "")
    assert rows(other, waits, refused).refusal == "no such cluster"
