"""Ratings that wait for the router's log: what nobody can attribute keeps nothing else out, and is counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.kernel.errors import TooMany
from rollouts.domain.uncounted import Uncounted
from rollouts.models import Feedback, FeedbackState, UncountedRatings
from rollouts.ports import LoggedRequest
from rollouts.selectors import find_endpoint_with_ratings
from rollouts.services.commands import feedback
from rollouts.services.commands.feedback import LOOKED_FOR, VERIFY_WITHIN, record_feedback, verify_feedback
from rollouts.services.loop.clock_jumps import move_times
from rollouts.services.loop.samples import prune_samples
from tests import factories
from tests.rollouts.memory_world import MemoryWorld

INTERVAL = 5.0  # seconds between two looks, as in production
pytestmark = pytest.mark.django_db


class Log:
    """A request log in memory; remembers what it was asked for."""

    def __init__(self) -> None:
        self.entries: dict[str, LoggedRequest] = {}
        self.asked: list[frozenset[str]] = []

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        self.asked.append(frozenset(request_ids))
        return {name: self.entries[name] for name in request_ids if name in self.entries}

    def rotate(self) -> bool:
        return False


class Scene:
    """An endpoint whose requests and ratings a test makes one by one; every second is told."""

    def __init__(self) -> None:
        self.now = factories.right_now()
        self.endpoint = factories.endpoint(now=self.now)
        assert self.endpoint.stable is not None
        self.variant = self.endpoint.stable.name
        self.log = Log()
        self.sender = Actor(factories.person(Role.VIEWER), "app via ratings", "token")

    def answers(self, request_id: str, *, assigned: str | None = None) -> None:
        """The request ended, and the router wrote its line."""
        of = self.variant if assigned is None else assigned
        at = self.now.timestamp()
        self.log.entries[request_id] = LoggedRequest(request_id, "triage", of, self.variant, 200, at)

    def rate(self, request_id: str, *, sender: Actor | None = None) -> Feedback:
        return record_feedback(
            endpoint_name="triage",
            request_id=request_id,
            variant=self.variant,
            up=True,
            actor=sender or self.sender,
            now=self.now,
        )

    def bogus(self, count: int, *, name: str = "bogus") -> None:
        """Ratings of requests that the router never saw, received now from nobody in particular."""
        Feedback.objects.bulk_create(
            Feedback(
                request_id=f"{name}-{number:08}",
                endpoint=self.endpoint,
                variant=self.variant,
                up=True,
                received_at=self.now,
            )
            for number in range(count)
        )

    def look(self, *, after: float = INTERVAL) -> int:
        self.now += timedelta(seconds=after)
        return verify_feedback(endpoint=self.endpoint, log=self.log, now=self.now)

    def uncounted(self) -> Uncounted:
        return find_endpoint_with_ratings("triage", now=self.now).uncounted_ratings


@pytest.fixture
def scene() -> Scene:
    return Scene()


def state_of(made: Feedback) -> str:
    made.refresh_from_db()
    return made.state


# --- who is looked for, and when ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "looks"), [(600, 1), (5_000, 2)])
def test_verify__bogus_ids_before_a_real_one__it_is_verified_within_so_many_looks(
    scene: Scene, count: int, looks: int
) -> None:
    scene.bogus(count)
    scene.answers("request-real")
    made = scene.rate("request-real")
    for _ in range(looks):
        scene.look()
    assert state_of(made) == FeedbackState.VERIFIED


def test_verify__bogus_ids_sent_all_the_time__a_real_one_is_verified_at_its_first_look(scene: Scene) -> None:
    for wave in range(12):  # ten times as many as one sender's rate allows
        scene.bogus(500, name=f"wave-{wave}")
        scene.answers(f"request-{wave}")
        made = scene.rate(f"request-{wave}")
        scene.look()
        assert state_of(made) == FeedbackState.VERIFIED


def test_loop__bogus_ids_before_a_real_one__the_turn_after_the_interval_verifies_it(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path).serve()
    Feedback.objects.bulk_create(
        Feedback(
            request_id=f"bogus-{number:08}",
            endpoint_id=w.endpoint_id,
            variant=w.variant(1).name,
            up=True,
            received_at=w.now,
        )
        for number in range(600)
    )
    response = w.router.send("triage")
    made = record_feedback(
        endpoint_name="triage",
        request_id=response.request_id,
        variant=response.answered,
        up=True,
        actor=w.engineer,
        now=w.now,
    )
    w.run_for(3)
    assert state_of(made) == FeedbackState.VERIFIED


def test_verify__looked_for_in_vain__is_left_alone_for_a_pause_that_doubles(scene: Scene) -> None:
    scene.bogus(1)
    seconds: list[int] = []
    for second in range(120):
        scene.look(after=1)
        if scene.log.asked and len(scene.log.asked) > len(seconds):
            seconds.append(second)
    assert seconds == [0, 2, 6, 14, 30, 60, 90]


def test_verify__more_than_one_look_takes__those_looked_for_least_often_and_the_oldest_come_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "LOOKED_FOR", 2)
    scene.bogus(1, name="first")
    scene.look(after=0)
    for name in ("second", "third", "fourth"):
        scene.bogus(1, name=name)
        scene.now += timedelta(seconds=10)
    scene.look(after=60)
    scene.look(after=0)
    assert [sorted(one.rsplit("-", 1)[0] for one in asked) for asked in scene.log.asked] == [
        ["first"],
        ["second", "third"],
        ["first", "fourth"],
    ]


def test_verify__request_still_runs_when_it_is_rated__counts_once_it_ends(scene: Scene) -> None:
    made = scene.rate("request-long")
    for _ in range(8):
        scene.look()
    assert state_of(made) == FeedbackState.PENDING
    scene.answers("request-long")
    ended = scene.now
    while state_of(made) == FeedbackState.PENDING:
        scene.look()
    assert made.state == FeedbackState.VERIFIED
    assert scene.now - ended <= timedelta(seconds=30 + INTERVAL)


def test_verify__never_logged__is_given_up_after_five_minutes_and_one_pause(scene: Scene) -> None:
    scene.bogus(3)
    began = scene.now
    while Feedback.objects.filter(state=FeedbackState.PENDING).exists():
        scene.look()
    assert VERIFY_WITHIN < scene.now - began <= VERIFY_WITHIN + timedelta(seconds=30 + INTERVAL)
    assert scene.uncounted() == Uncounted(unverifiable=3)


def test_verify__ten_times_as_many__costs_the_same_queries(scene: Scene) -> None:
    costs: list[int] = []
    for count in (400, 4_000):
        scene.bogus(count, name=f"of-{count}")
        scene.answers(f"request-{count}")
        scene.rate(f"request-{count}")
        with CaptureQueriesContext(connection) as captured:
            scene.look()
        costs.append(len(captured))
        Feedback.objects.all().delete()
    assert costs[0] == costs[1] <= 6


def test_verify__far_more_than_one_look_takes__asks_the_log_for_so_many_at_once(scene: Scene) -> None:
    scene.bogus(LOOKED_FOR + 500)
    scene.look()
    scene.look(after=0)
    assert [len(asked) for asked in scene.log.asked] == [LOOKED_FOR, 500]


def test_verify__log_fails_for_many__one_behind_them_is_verified_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.bogus(40)
    scene.answers("request-real")
    made = scene.rate("request-real")
    find = scene.log.find

    def failing(request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        if any(name.startswith("bogus") for name in request_ids):
            raise OSError("an odd entry")
        return find(request_ids)

    monkeypatch.setattr(scene.log, "find", failing)
    for _ in range(3):
        scene.look()
    assert state_of(made) == FeedbackState.VERIFIED


def test_jump__of_the_clock__what_was_set_aside_is_moved_with_it(scene: Scene) -> None:
    scene.bogus(1)
    scene.look()
    before = Feedback.objects.get().not_before
    assert before is not None
    move_times(scene.endpoint, lambda moment: moment - timedelta(hours=1))
    assert Feedback.objects.get().not_before == before - timedelta(hours=1)


# --- the bound of one sender ----------------------------------------------------------------------------------------


@pytest.fixture
def two_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_WAITING", 2)


@pytest.mark.usefixtures("two_may_wait")
def test_record__too_many_of_one_sender_wait__is_refused_saying_what_to_do(scene: Scene) -> None:
    for number in range(2):
        scene.rate(f"request-{number}")
    with pytest.raises(TooMany) as caught:
        scene.rate("request-2")
    assert caught.value.code == "too-many-waiting-ratings"
    assert caught.value.wait_seconds == 30
    assert "x-request-id" in caught.value.fix
    assert Feedback.objects.count() == 2
    assert scene.uncounted() == Uncounted(refused=1)


@pytest.mark.usefixtures("two_may_wait")
def test_record__too_many_of_one_sender_wait__another_one_is_heard(scene: Scene) -> None:
    for number in range(2):
        scene.rate(f"request-{number}")
    another = replace(scene.sender, name="app via another")
    assert scene.rate("request-2", sender=another).sent_by == "app via another"


@pytest.mark.usefixtures("two_may_wait")
def test_record__earlier_ones_were_verified__there_is_room_again(scene: Scene) -> None:
    for number in range(2):
        scene.answers(f"request-{number}")
        scene.rate(f"request-{number}")
    scene.look()
    assert scene.rate("request-2").state == FeedbackState.PENDING


# --- what did not count is counted ------------------------------------------------------------------------------------


def test_verify__forced_and_unverifiable__are_counted(scene: Scene) -> None:
    scene.answers("request-forced", assigned="")
    scene.rate("request-forced")
    scene.answers("request-other")
    scene.log.entries["request-other"] = replace(scene.log.entries["request-other"], answered="another")
    scene.rate("request-other")
    scene.look()
    assert scene.uncounted() == Uncounted(unverifiable=1, forced=1)


def test_verify__every_rating_counts__nothing_is_written_of_those_that_do_not(scene: Scene) -> None:
    scene.answers("request-real")
    scene.rate("request-real")
    scene.look()
    assert scene.uncounted() == Uncounted()
    assert not UncountedRatings.objects.exists()


def test_uncounted__a_day_later__is_no_longer_shown_and_pruned_after_two(scene: Scene) -> None:
    scene.answers("request-forced", assigned="")
    scene.rate("request-forced")
    scene.look()
    scene.now += timedelta(hours=24)
    assert scene.uncounted() == Uncounted()
    prune_samples(now=scene.now)
    assert UncountedRatings.objects.exists()
    prune_samples(now=scene.now + timedelta(hours=25))
    assert not UncountedRatings.objects.exists()
