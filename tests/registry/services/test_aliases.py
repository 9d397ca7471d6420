"""Where aliases point and how they moved: a move that we asked for is ours, every other one somebody's by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from controlplane.web.models import LiveEvent
from registry.models import Alias, AliasMove, Model, Version
from registry.services.aliases import (
    BY_HAND,
    INTENT_LIFETIME,
    TOPIC,
    record_move,
    sync_aliases,
    waiting_moves,
)
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> Model:
    """Three versions; `production` points at the first since two days ago."""
    return factories.model()


def version(model: Model, number: int) -> Version:
    return model.versions.get(number=number)


def points_at(model: Model) -> dict[str, int]:
    return dict(model.aliases.values_list("name", "version__number"))


def moves(model: Model) -> list[tuple[str, int | None, int | None, str]]:
    """Since the first one: alias, to, from, by."""
    rows = AliasMove.objects.filter(model=model).order_by("pk")[1:]
    return [
        (
            row.alias,
            None if row.version is None else row.version.number,
            None if row.previous is None else row.previous.number,
            row.by,
        )
        for row in rows
    ]


def ask(model: Model, number: int, at: datetime) -> AliasMove:
    """We ask the store to move the alias."""
    return AliasMove.objects.create(
        model=model, alias="production", version=version(model, number), asked_at=at, by="mara"
    )


def test_sync__store_says_the_same__is_no_move(model: Model, now: datetime) -> None:
    assert sync_aliases(model=model, aliases={"production": 1}, now=now) == 0
    assert moves(model) == []
    assert not LiveEvent.objects.exists()


def test_sync__moved_made_and_removed__each_is_a_move_by_hand(model: Model, now: datetime) -> None:
    assert sync_aliases(model=model, aliases={"production": 2, "canary": 3}, now=now) == 2
    assert sync_aliases(model=model, aliases={"production": 2}, now=now) == 1
    assert points_at(model) == {"production": 2}
    assert moves(model) == [
        ("canary", 3, None, BY_HAND),
        ("production", 2, 1, BY_HAND),
        ("canary", None, 3, BY_HAND),
    ]


def test_sync__to_a_version_that_is_not_mirrored_yet__is_left_for_the_next_pass(
    model: Model, now: datetime
) -> None:
    assert sync_aliases(model=model, aliases={"production": 9, "canary": 2}, now=now) == 1
    assert points_at(model) == {"production": 1, "canary": 2}


def test_sync__the_move_that_we_asked_for__is_ours_and_no_second_one(model: Model, now: datetime) -> None:
    asked = ask(model, 2, now)
    seen = now + timedelta(seconds=20)
    assert sync_aliases(model=model, aliases={"production": 2}, now=seen) == 1
    assert moves(model) == [("production", 2, 1, "mara")]
    asked.refresh_from_db()
    assert (asked.asked_at, asked.moved_at) == (now, seen)


@pytest.mark.parametrize(
    ("asked_for", "ago"),
    [(3, timedelta(0)), (2, INTENT_LIFETIME)],
    ids=["for another version", "long ago"],
)
def test_sync__not_the_move_that_we_asked_for__is_by_hand(
    model: Model, now: datetime, asked_for: int, ago: timedelta
) -> None:
    ask(model, asked_for, now - ago)
    sync_aliases(model=model, aliases={"production": 2}, now=now, why="seen in MLflow")
    assert moves(model)[-1] == ("production", 2, 1, BY_HAND)
    assert AliasMove.objects.latest("pk").why == "seen in MLflow"


def test_record__every_move__ends_reads_that_began_before_it_and_tells_open_pages(
    model: Model, now: datetime
) -> None:
    before = Model.objects.get().alias_epoch
    record_move(
        model=model, alias="production", version=version(model, 2), previous=version(model, 1), now=now,
        by="mara", why="promoted",
    )  # fmt: skip
    assert Model.objects.get().alias_epoch == before + 1
    assert LiveEvent.objects.get().topic == TOPIC
    assert points_at(model) == {"production": 2}


def test_record__to_nothing__removes_the_alias(model: Model, now: datetime) -> None:
    record_move(
        model=model, alias="production", version=None, previous=version(model, 1), now=now, by="mara", why=""
    )
    assert not Alias.objects.filter(model=model).exists()


def test_waiting__of_this_alias__are_those_not_seen_yet_the_newest_first(model: Model, now: datetime) -> None:
    ask(model, 3, now - INTENT_LIFETIME)
    first, last = ask(model, 2, now - timedelta(seconds=2)), ask(model, 3, now)
    AliasMove.objects.create(model=model, alias="canary", version=version(model, 2), asked_at=now, by="mara")
    AliasMove.objects.filter(pk=last.pk).update(moved_at=None)
    assert list(waiting_moves(model=model, alias="production", now=now)) == [last, first]
