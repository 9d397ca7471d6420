"""Ratings that count for nobody, in words."""

from __future__ import annotations

from rollouts.domain.uncounted import Uncounted


def test_sentence__several_kinds__names_each_with_its_number() -> None:
    assert Uncounted(unverifiable=1_200, forced=2, refused=10).sentence == (
        "In the last 24 h 1,212 ratings did not count: 1,200 named answers that the router's log does not have, "
        "2 were of answers whose variant was chosen by header, and 10 were refused because too many ratings of the "
        "same sender were waiting."
    )


def test_sentence__a_single_one__is_told_in_the_singular() -> None:
    assert Uncounted(forced=1).sentence.startswith("In the last 24 h 1 rating did not count: 0 named answers")


def test_sentence__every_rating_counted__is_empty() -> None:
    assert Uncounted().sentence == ""
