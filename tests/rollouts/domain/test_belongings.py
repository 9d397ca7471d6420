"""When a launch that the database does not know is taken away: only where nothing speaks against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.belongings import (
    MOST_AT_ONCE,
    UNKNOWN_SECONDS,
    Belongings,
    Doubts,
    LaunchFound,
    ModelServer,
    Orphan,
    marks,
    orphans_among,
)

NOW = 1_800_000_000.0
LONG_AGO = NOW - UNKNOWN_SECONDS - 1
NO_DOUBT = Doubts(frozenset())
DUE = LaunchFound("chat-v1-aaaa", "chat", "ConfigMap chat-v1-aaaa", LONG_AGO, LONG_AGO, "u1 7")
OURS = tuple(LaunchFound(f"chat-v{n}-bbbb", "chat", f"ConfigMap chat-v{n}-bbbb", LONG_AGO) for n in range(9))
KNOWN = frozenset(one.variant for one in OURS)


def waits(launch: LaunchFound = DUE, doubts: Doubts = NO_DOUBT, ours: tuple[LaunchFound, ...] = OURS) -> str:
    (found,) = orphans_among((*ours, launch), known=KNOWN, doubts=doubts, now=NOW)
    assert found.launch == launch
    return found.waits


def test_orphan__unknown_for_a_day_and_nothing_speaks_against_it__is_taken_away() -> None:
    assert waits() == ""


def test_launch__that_the_database_knows__is_no_orphan() -> None:
    assert orphans_among(OURS, known=KNOWN, doubts=NO_DOUBT, now=NOW) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unknown_since": None}, "when it was unknown for 24 hours"),
        ({"unknown_since": NOW - UNKNOWN_SECONDS + 60}, "after 2027-01-15 08:01 UTC"),
        ({"made_at": NOW - 60}, "after 2027-01-16 07:59 UTC"),
        ({"made_at": None}, "when it was unknown for 24 hours"),
        ({"by_hand": "Delete it by hand."}, "Delete it by hand."),
        ({"ending": True}, "It ends already."),
    ],
)
def test_orphan__too_young_or_not_ours_to_end__waits_and_says_why(change: dict[str, Any], words: str) -> None:
    assert words in waits(replace(DUE, **change))


@pytest.mark.parametrize(
    ("doubts", "words"),
    [
        (Doubts(frozenset({DUE.variant})), "A route still names it: take the route of chat away first."),
        (Doubts(None), "the router does not say it now"),
        (Doubts(frozenset(), unread=frozenset({"chat"})), "the router does not say it now"),
        (Doubts(frozenset(), said="The global stop is on."), "The global stop is on."),
    ],
)
def test_orphan__something_speaks_against_it__waits_and_says_what(doubts: Doubts, words: str) -> None:
    assert words in waits(doubts=doubts)


def test_orphan__route_of_another_endpoint_cannot_be_read__is_taken_away() -> None:
    assert waits(doubts=Doubts(frozenset(), unread=frozenset({"other"}))) == ""


def test_orphans__more_than_the_database_knows__are_rather_a_wrong_database() -> None:
    assert waits(ours=OURS[:1]) == ""
    assert "does not know 1 of 1 launches there" in waits(ours=())


def test_orphans__many__are_taken_away_a_few_at_once_the_oldest_first() -> None:
    many = [
        replace(DUE, variant=f"x{n}", where=f"ConfigMap x{n}", made_at=LONG_AGO - n, state=f"u{n} 1")
        for n in range(8)
    ]
    found = orphans_among((*OURS, *many), known=KNOWN, doubts=NO_DOUBT, now=NOW)
    assert [one.launch.variant for one in found if not one.waits] == [f"x{n}" for n in (7, 6, 5, 4, 3)]
    assert MOST_AT_ONCE == 5
    assert {one.waits for one in found if one.waits} == {"Others are taken away first."}


def test_marks__unknown_for_the_first_time_and_known_again__are_set_and_taken_off() -> None:
    new, again = replace(DUE, unknown_since=None), replace(OURS[0], unknown_since=LONG_AGO)
    found = marks((new, again, OURS[1]), known=KNOWN, doubts=NO_DOUBT, now=NOW)
    assert found == {new.where: True, again.where: False}


def test_marks__set_already__stay_as_they_are() -> None:
    assert marks((DUE,), known=KNOWN, doubts=NO_DOUBT, now=NOW) == {}


def test_marks__by_a_clock_that_was_ahead__are_set_anew() -> None:
    ahead = replace(DUE, unknown_since=NOW + 900)
    assert marks((ahead,), known=KNOWN, doubts=NO_DOUBT, now=NOW) == {DUE.where: True}


def test_marks__the_database_is_doubted__no_time_that_passed_counts() -> None:
    doubts = Doubts(frozenset(), said="It was restored.", anew=True)
    assert marks((DUE,), known=KNOWN, doubts=doubts, now=NOW) == {DUE.where: False}
    assert marks((replace(DUE, unknown_since=None),), known=KNOWN, doubts=doubts, now=NOW) == {}


@pytest.mark.parametrize("change", [{"ending": True}, {"by_hand": "x"}])
def test_marks__of_what_is_not_ours_to_end__are_not_touched(change: dict[str, Any]) -> None:
    assert marks((replace(DUE, unknown_since=None, **change),), known=KNOWN, doubts=NO_DOUBT, now=NOW) == {}


moments = st.one_of(st.none(), st.floats(NOW - 3 * UNKNOWN_SECONDS, NOW + UNKNOWN_SECONDS))
launches = st.lists(
    st.builds(
        LaunchFound,
        variant=st.sampled_from([*sorted(KNOWN), "x1", "x2", "x3"]),
        endpoint=st.sampled_from(["chat", "other", ""]),
        where=st.uuids().map(str),
        made_at=moments,
        unknown_since=moments,
        by_hand=st.sampled_from(["", "by hand"]),
        ending=st.booleans(),
    ),
    max_size=12,
)
doubts = st.builds(
    Doubts,
    routed=st.one_of(st.none(), st.frozensets(st.sampled_from(["x1", "x2"]))),
    unread=st.frozensets(st.sampled_from(["chat", "other"])),
    said=st.sampled_from(["", "", "The global stop is on."]),
)


@given(launches, doubts)
def test_orphans__whatever_there_is__only_what_every_guard_lets_pass_is_taken_away(
    found: list[LaunchFound], doubted: Doubts
) -> None:
    orphans = orphans_among(found, known=KNOWN, doubts=doubted, now=NOW)
    taken = [one.launch for one in orphans if not one.waits]
    assert len(taken) <= MOST_AT_ONCE
    assert len(orphans) == sum(one.variant not in KNOWN for one in found)
    assert not taken or 2 * len(orphans) <= len(found)
    for one in taken:
        assert one.variant not in KNOWN
        assert doubted.routed is not None
        assert one.variant not in doubted.routed
        assert not doubted.said
        assert one.endpoint not in doubted.unread
        assert not one.by_hand
        assert not one.ending
        assert one.made_at is not None
        assert one.unknown_since is not None
        assert max(one.made_at, one.unknown_since) + UNKNOWN_SECONDS <= NOW


def test_belongings__as_they_are_kept__come_back() -> None:
    server = ModelServer("Deployment llama", "vllm/vllm-openai:v1", "llama", "Helm", 1, 2, LONG_AGO)
    kept = Belongings(NOW, (Orphan(DUE, "It waits."),), (server,))
    assert Belongings.from_json(kept.to_json()) == kept


def test_belongings__never_looked_for__are_none() -> None:
    assert Belongings.from_json({}) is None


def test_belongings__kept_by_another_version__are_read_with_what_is_known() -> None:
    launch = {"variant": "x", "endpoint": "", "where": "ConfigMap x", "colour": "red"}
    found = Belongings.from_json({"at": 1, "orphans": [{"launch": launch}]})
    assert found == Belongings(1.0, (Orphan(LaunchFound("x", "", "ConfigMap x")),))


@pytest.mark.parametrize(
    "odd", [["x"], "odd", 7, {"at": "yesterday"}, {"at": 1, "orphans": [{}]}, {"orphans": 7}]
)
def test_from_json__of_what_is_odd__is_as_never_looked_at(odd: Any) -> None:
    assert Belongings.from_json(odd) is None
